"""Judge of generated images: a trained classifier that returns class probabilities and features.

The judge of a data set is the champion of LeNet-5 on it, as it is served, with one more output: the input of
its last linear layer, tapped from the ONNX graph.

Shape legend: N images, H height, W width, C channels, D features, K classes, Z latent size.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from training import promotion
from zoo import bundle
from zoo.errors import BundleError, NotFound
from zoo.graph import Graph
from zoo.tasks import Arrays, Run
from zoo.tasks.base import run_in_batches
from zoo.tasks.image_generation import pixels

JUDGE = "lenet5"
FEATURES = "features"
LINEAR = ("Gemm", "MatMul")


class Judge:
    """A `Run`: `image` uint8 [N, H, W, C] -> `probabilities` [N, K] and `features` [N, D]."""

    def __init__(self, classifier: bytes) -> None:
        """Opens the graph of an image classifier; raises `BundleError` if it has no linear layer."""
        self._graph = Graph(_tapped(classifier))

    def __call__(self, inputs: Arrays) -> Arrays:
        return run_in_batches(self._graph, inputs)

    def features(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the features [N, D] of images [N, H, W, C]."""
        seen: NDArray[np.float32] = self({"image": image})[FEATURES]
        return seen

    def after(self, generator: Run) -> Run:
        """Returns a run from `latent` [N, Z] and `class` [N] to the judge's answer on generated images."""
        return lambda inputs: self({"image": pixels(generator(inputs))})


def judge_of(dataset: str) -> Judge:
    """Returns the judge of a data set; raises `NotFound` if it has not been trained."""
    name = f"{JUDGE}-{dataset}"
    version = promotion.champion(name)
    if version is None:
        raise NotFound(
            f"generated images are judged by {name}, which has no champion; "
            f"train it first: zoo train {JUDGE} --dataset {dataset}"
        )
    return Judge(bundle.load(promotion.download(name, version)).graph_path.read_bytes())


def _tapped(classifier: bytes) -> bytes:
    """Returns the graph with the input of its last linear layer as an additional output."""
    model = onnx.load_model_from_string(classifier)
    last = next((node for node in reversed(model.graph.node) if node.op_type in LINEAR), None)
    if last is None:
        raise BundleError("the judge's graph has no linear layer to tap")
    # An extra node, so that the output has the name FEATURES.
    model.graph.node.append(onnx.helper.make_node("Identity", [last.input[0]], [FEATURES]))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, ["batch", None])
    )
    tapped: bytes = model.SerializeToString()
    return tapped
