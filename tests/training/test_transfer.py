"""Starting from other weights: what is taken, what is new, what is frozen, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from quick_training import fitted
from torch import nn

from training import imagenet, pipeline, tracking, transfer
from training.image_recipe import ImageRecipe
from training.promotion import run_of
from training.recipes import recipe_for
from training.transfer import Transfer
from zoo.errors import InvalidInput, NotFound, ZooError
from zoo.models.lenet5 import LeNet5, LeNet5Config
from zoo.models.vgg16 import VGG16, VGG16Config

pytestmark = pytest.mark.slow

LENET: ImageRecipe = replace(
    recipe_for("lenet5", "mnist-5k"), images_per_class=20, epochs=4, bar=None, threads=1, batch_size=40
)
SMALL = VGG16Config(width=4, hidden=8)


def lenet(channels: int = 1, classes: int = 10) -> LeNet5:
    return LeNet5(LeNet5Config(), channels, 28, classes)


def test_same_network_takes_everything() -> None:
    one, other = lenet(), lenet()
    assert transfer.load(one, other.state_dict()) == []
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_other_classes_get_a_new_last_layer() -> None:
    one, other = lenet(classes=4), lenet()
    before = one.classifier[5].weight.clone()
    assert transfer.load(one, other.state_dict()) == ["classifier.5.weight", "classifier.5.bias"]
    assert torch.equal(one.classifier[5].weight, before)
    assert torch.equal(one.features[0].weight, other.features[0].weight)


def test_colour_network_sees_grey_as_it_saw_grey_in_colour() -> None:
    colour, grey = lenet(channels=3).eval(), lenet().eval()
    transfer.load(grey, colour.state_dict())
    image = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(grey(image), colour(image.expand(2, 3, 28, 28)))


def test_grey_network_sees_grey_in_colour_as_it_saw_grey() -> None:
    colour, grey = lenet(channels=3).eval(), lenet().eval()
    transfer.load(colour, grey.state_dict())
    image = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(colour(image.expand(2, 3, 28, 28)), grey(image))


def test_another_network_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"features.0.weight is \(4, 1, 3, 3\) here and \(6, 1, 5, 5\) there"
    ):
        transfer.load(VGG16(SMALL, 1, 28, 10), lenet().state_dict())
    with pytest.raises(InvalidInput, match="missing there"):
        transfer.load(VGG16(replace(SMALL, batch_norm=True), 1, 28, 10), VGG16(SMALL, 1, 28, 10).state_dict())


@pytest.mark.parametrize("configuration", ["A", "D", "E"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_torchvision_s_names_are_ours(configuration: str, batch_norm: bool) -> None:
    from torchvision.models import vgg

    depth = {"A": 11, "D": 16, "E": 19}[configuration]
    with torch.device("meta"):  # shapes without half a gigabyte of numbers
        theirs = getattr(vgg, f"vgg{depth}" + ("_bn" if batch_norm else ""))().state_dict()
        ours = VGG16(VGG16Config(configuration, batch_norm), 3, 224, 1000).state_dict()  # type: ignore[arg-type]
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_pretrained_torchvision_layers_compute_the_same() -> None:
    from torchvision.models.vgg import VGG, make_layers

    plan = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    theirs = VGG(make_layers(plan, batch_norm=True), num_classes=5)  # type: ignore[arg-type]
    theirs.avgpool = nn.Identity()
    theirs.classifier = nn.Sequential(
        nn.Linear(32, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5)
    )
    for tensor in theirs.state_dict().values():  # every layer different from every other
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    ours = VGG16(VGG16Config(batch_norm=True, width=4, hidden=8), 3, 32, 5)
    assert transfer.load(ours, theirs.state_dict()) == []
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(image), theirs.eval()(image))


def test_imagenet_needs_a_network_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(NotFound, match="vgg11"):
        imagenet.vgg16_weights("A", False)


def test_imagenet_is_refused_where_there_is_none() -> None:
    with pytest.raises(NotFound, match="no ImageNet weights for lenet5"):
        pipeline.prepare(replace(LENET, transfer=Transfer(pretrained="imagenet")))


# freezing


def test_frozen_part_stays_and_the_rest_learns() -> None:
    start = lenet_after(epochs=0)
    trained = lenet_after(epochs=4, freeze="features")
    for name, tensor in start.items():
        assert torch.equal(tensor, trained[name]) == name.startswith("features."), name


def test_frozen_part_learns_once_it_has_thawed() -> None:
    frozen, thawed = (lenet_after(4, freeze="features", unfreeze_at=epoch) for epoch in (4, 2))
    assert not torch.equal(frozen["features.0.weight"], thawed["features.0.weight"])
    assert torch.equal(frozen["features.0.weight"], lenet_after(0)["features.0.weight"])


def test_first_layers_of_a_thawed_part_can_stay() -> None:
    start = lenet_after(epochs=0)
    trained = lenet_after(4, freeze="features", unfreeze_at=2, unfreeze_from="features.3")
    for name, tensor in start.items():
        assert torch.equal(tensor, trained[name]) == name.startswith("features.0."), name


def test_running_statistics_are_frozen_too() -> None:
    part = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    part.train()
    transfer.Frozen(part, until=None).update(10**6)
    before = part[1].running_mean.clone()
    part(torch.rand(4, 1, 8, 8))
    assert torch.equal(part[1].running_mean, before)


def test_running_statistics_before_what_thaws_are_frozen_too() -> None:
    blocks = [nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)) for _ in range(3)]
    transfer.Frozen(nn.Sequential(*blocks), until=2, first=blocks[1]).update(2)
    assert [block[1].training for block in blocks] == [False, True, True]
    assert [block[0].weight.requires_grad for block in blocks] == [False, True, True]


def test_head_has_its_own_learning_rate() -> None:
    recipe = replace(LENET, transfer=Transfer(head_learning_rate=0.5))
    groups = pipeline.prepare(recipe).objective.optimizers[0].param_groups
    own, usual = 0.5, recipe.optimizer.learning_rate
    # Of each, the matrices decay, and the biases do not.
    rates = [(group["initial_lr"], len(group["params"])) for group in groups]
    assert rates == [(own, 3), (own, 3), (usual, 2), (usual, 2)]


def test_unknown_part_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="no part 'body'; it has features, classifier"):
        pipeline.prepare(replace(LENET, transfer=Transfer(freeze="body")))


def test_only_a_layer_of_what_is_frozen_can_thaw() -> None:
    wrong = Transfer(freeze="features", unfreeze_at=1, unfreeze_from="classifier")
    with pytest.raises(InvalidInput, match="unfreeze_from must be in features, not classifier"):
        pipeline.prepare(replace(LENET, transfer=wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"unfreeze_at": 3},
        {"freeze": "features", "unfreeze_at": 0},
        {"freeze": "features", "unfreeze_from": "features.3"},
    ],
)
def test_thawing_what_is_not_frozen_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ZooError, match="unfreeze_at"):
        Transfer(**wrong)  # type: ignore[arg-type]


def lenet_after(
    epochs: int,
    freeze: str | None = None,
    unfreeze_at: int | None = None,
    unfreeze_from: str | None = None,
) -> transfer.Weights:
    chosen = Transfer(freeze=freeze, unfreeze_at=unfreeze_at, unfreeze_from=unfreeze_from)
    recipe = replace(LENET, transfer=chosen)
    if epochs == 0:
        return pipeline.prepare(recipe).model.state_dict()
    return fitted(replace(recipe, epochs=epochs))[0].model.state_dict()


# from a registered version


@pytest.mark.parametrize("reference", ["lenet5-mnist-5k", "lenet5-mnist-5k@champion", "lenet5-mnist-5k/1"])
def test_any_registered_version_can_be_started_from(zoo: object, reference: str) -> None:
    prepared = pipeline.prepare(replace(LENET, transfer=Transfer(pretrained=reference)))
    kept = tracking.weights_of(run_of("lenet5-mnist-5k", "1"))
    assert prepared.fresh == []
    assert all(torch.equal(tensor, kept[name]) for name, tensor in prepared.model.state_dict().items())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("lenet5-mnist-5k/99", "no version 99"),
        ("nothing@champion", "no champion"),
        ("a b@c@d", "none of NAME"),
    ],
)
def test_what_is_not_there_is_said(zoo: object, reference: str, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        pipeline.prepare(replace(LENET, transfer=Transfer(pretrained=reference)))


def test_run_says_what_was_frozen_and_compares_with_scratch(home: Path) -> None:
    first = pipeline.train(LENET)
    assert first
    again = Transfer("lenet5-mnist-5k", freeze="features", unfreeze_at=2, head_learning_rate=1e-3)
    second = pipeline.train(replace(LENET, transfer=again, epochs=3))
    assert second
    from mlflow.tracking import MlflowClient

    from zoo.home import tracking_uri

    client = MlflowClient(tracking_uri())
    run = client.get_run(second.run_id)
    params, metrics = run.data.params, run.data.metrics
    assert params["transfer.pretrained"] == "lenet5-mnist-5k"
    assert (params["transfer.freeze"], params["transfer.unfreeze_at"]) == ("features", "2")
    gain = second.value - metrics["test_from_scratch_accuracy"]
    assert metrics["test_gain_over_scratch"] == pytest.approx(gain, abs=1e-6)
    others = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{second.run_id}'")
    assert [other.data.params["transfer.pretrained"] for other in others] == ["None"]
