"""The judge: a champion with a second output, alone and behind a generator."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quick_training import QuickZoo, raw

from training import promotion
from training.judge import Judge, judge_of
from zoo import bundle
from zoo.errors import BundleError, NotFound
from zoo.graph import Graph
from zoo.tasks import Arrays
from zoo.tasks.base import run_in_batches


@pytest.fixture
def champion(zoo: QuickZoo) -> bytes:
    name, version = promotion.resolve("lenet5-mnist-5k")
    return bundle.load(promotion.download(name, version)).graph_path.read_bytes()


def images(count: int) -> np.ndarray:
    return raw("mnist-5k").test["image"][:count]


def test_it_answers_as_the_champion_does(champion: bytes) -> None:
    shown = {"image": images(300)}  # more than go through the graph at once
    answers = judge_of("mnist-5k")(shown)
    assert set(answers) == {"probabilities", "features"}
    expected = run_in_batches(Graph(champion), shown)["probabilities"]
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)


def test_features_are_what_the_last_layer_weighs(champion: bytes) -> None:
    features = judge_of("mnist-5k").features(images(5))
    assert features.shape == (5, 84)  # LeNet-5's F6
    assert features.min() == 0 < features.max()  # behind its ReLU
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(champion).graph.initializer}
    (matrix,) = [w for w in weights.values() if w.shape == (10, 84)]
    (bias,) = [w for w in weights.values() if w.shape == (10,)]
    logits = features @ matrix.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, Graph(champion)({"image": images(5)})["probabilities"], atol=1e-5)


def test_behind_a_generator_it_sees_the_images_that_a_client_gets(champion: bytes) -> None:
    real = images(7)

    def generator(inputs: Arrays) -> Arrays:
        assert set(inputs) == {"latent", "class"}
        return {"image": (real[: len(inputs["latent"])] / 255).astype(np.float32)}

    judge = Judge(champion)
    asked = {"latent": np.zeros((7, 2), np.float32), "class": np.zeros(7, np.int64)}
    answers, expected = judge.after(generator)(asked), judge({"image": real})
    np.testing.assert_array_equal(answers["features"], expected["features"])
    np.testing.assert_array_equal(answers["probabilities"], expected["probabilities"])


def test_without_a_champion_it_says_what_to_train(home: object) -> None:
    with pytest.raises(NotFound, match="train it first: zoo train lenet5 --dataset fashion-mnist"):
        judge_of("fashion-mnist")


def test_a_graph_without_linear_layer_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["image"], ["probabilities"])
    floats = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3])
        for name in ("image", "probabilities")
    ]
    graph = onnx.helper.make_graph([node], "relu", floats[:1], floats[1:])
    with pytest.raises(BundleError, match="no linear layer"):
        Judge(onnx.helper.make_model(graph).SerializeToString())
