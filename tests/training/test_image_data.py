"""Images from files: folders and CIFAR-10 in both forms, decoded once and split."""

import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training import datasets, recipes
from training.datasets import Data, cifar10, few_per_class, hold_out, image_folder
from training.datasets.array_cache import cached
from training.datasets.image_folder import dataset_name, load_images
from training.recipe import Recipe
from zoo.errors import InvalidInput, NotFound, ZooError
from zoo.images import decode_image

SIZE = 8
CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    """Blocks of four pixels, which JPEG keeps apart; no two seeds alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 2, width // 2, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(2, axis=0).repeat(2, axis=1))


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of each of two classes, PNG and JPEG."""
    root = tmp_path / "My Pets"
    for k, label in enumerate(CLASSES):
        for i in range(10):
            write(root / label / f"{i}.{'png' if i % 2 else 'jpg'}", 10 * k + i)
    return root


def load(root: Path, size: int = SIZE) -> Data:
    return load_images(f"images:{root}", size)


def examples(data: Data) -> list[tuple[bytes, int]]:
    splits = (data.train, data.validation or {}, data.test)
    pairs = [zip(split["image"], split["target"], strict=True) for split in splits if split]
    return sorted((image.tobytes(), int(target)) for split in pairs for image, target in split)


def expected(root: Path, *labels: str) -> list[tuple[bytes, int]]:
    found = [(path, k) for k, label in enumerate(labels) for path in (root / label).rglob("*.*g")]
    return sorted((decode_image(path.read_bytes(), SIZE, SIZE, 3).tobytes(), k) for path, k in found)


# Folders


def test_a_folder_is_split_and_decoded_as_the_service_decodes(folder: Path) -> None:
    data = load(folder)
    assert (data.name, data.kind, data.source) == ("my-pets", "image_classification", "My Pets")
    assert data.schema.labels == CLASSES
    assert data.train["image"].shape == (16, SIZE, SIZE, 3)
    assert data.train["image"].dtype == np.uint8
    assert data.test["target"].dtype == np.int64
    assert np.bincount(data.test["target"]).tolist() == [2, 2]
    assert examples(data) == expected(folder, *CLASSES)
    assert load(folder).digest == data.digest


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (("test",), ("test",)),
        (("val",), ("test",)),
        (("validation",), ("test",)),
        (("test", "val"), ("test", "validation")),
        (("test", "validation"), ("test", "validation")),
    ],
)
def test_a_folder_that_is_split_stays_so(
    folder: Path, tmp_path: Path, names: tuple[str, ...], fields: tuple[str, ...]
) -> None:
    root = tmp_path / "split"
    for seed, name in enumerate(("train", *names)):
        for k, label in enumerate(CLASSES):
            for i in range(1 + seed):
                write(root / name / label / f"{i}.png", 100 * seed + 10 * k + i)
    data = load(root)
    for field, name in (("train", "train"), *zip(fields, names, strict=True)):
        split = getattr(data, field)
        only = Data("n", "k", data.schema, "s", split, {})
        assert examples(only) == expected(root / name, *CLASSES), field
    assert (data.validation is None) == (len(names) == 1)


def test_files_at_any_depth_and_in_any_mode_are_read(folder: Path) -> None:
    deep = folder / "cat" / "indoors"
    deep.mkdir()
    picture(90).convert("L").save(deep / "grey.PNG")
    picture(91).convert("RGBA").save(deep / "alpha.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(92, 4, 20).save(deep / "turned.jpeg", exif=turned)
    data = load(folder)
    assert len(data.train["target"]) + len(data.test["target"]) == 23
    upright = decode_image((deep / "turned.jpeg").read_bytes(), SIZE, SIZE, 3).tobytes()
    assert (upright, 0) in examples(data)


def test_hidden_and_other_files_are_ignored(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = examples(load(folder))
    write(folder / ".thumbnails" / "a.png", 1)
    write(folder / "cat" / ".cache" / "a.png", 2)
    write(folder / "cat" / ".a.png", 3)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "readme.png").write_text("no class")
    assert examples(load(folder)) == before
    assert not caplog.records


@pytest.mark.parametrize("time", ["first", "second"])
def test_unreadable_files_are_left_out_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture, time: str
) -> None:
    before = examples(load(folder))
    for i in range(4):
        (folder / "dog" / f"broken {i}.jpg").write_bytes(b"\xff\xd8 not quite")
    if time == "second":
        load(folder)
        caplog.clear()
    assert examples(load(folder)) == before
    (message,) = [record.getMessage() for record in caplog.records]
    assert "left out 4 of 24 files" in message
    assert message.endswith("dog/broken 0.jpg, dog/broken 1.jpg, dog/broken 2.jpg, ...")


def test_what_only_has_an_images_name_is_ignored(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "cat" / "album.png").mkdir()
    (folder / "cat" / "away.png").symlink_to(folder / "nowhere.png")
    assert len(load(folder).train["target"]) == 16
    assert not caplog.records


def remove(folder: Path, label: str, keep: int = 0) -> None:
    for path in sorted((folder / label).iterdir())[keep:]:
        path.unlink()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no folder .*nowhere"):
        load(tmp_path / "nowhere")


def test_a_folder_without_images(folder: Path) -> None:
    for label in CLASSES:
        remove(folder, label)
    with pytest.raises(NotFound, match=r"no PNG or JPEG files in the subfolders of .*My Pets"):
        load(folder)


def test_one_class_is_not_enough(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"at least 2 classes; it has none"):
        load(folder / "cat")
    remove(folder, "dog")
    (folder / "dog").rmdir()
    with pytest.raises(InvalidInput, match=r"at least 2 classes; it has \['cat'\]"):
        load(folder)


@pytest.mark.parametrize("left", [0, 1])
def test_a_class_with_too_few_images(folder: Path, left: int) -> None:
    remove(folder, "dog", keep=left)
    with pytest.raises(InvalidInput, match=rf"class 'dog' has {left} readable .*; at least 2 are needed"):
        load(folder)


def test_too_few_images_to_test_every_class(folder: Path) -> None:
    for label in CLASSES:
        remove(folder, label, keep=4)
    with pytest.raises(InvalidInput, match="8 images of 2 classes; at least 5 a class"):
        load(folder)
    write(folder / "cat" / "a.png", 50)
    write(folder / "cat" / "b.png", 51)
    assert set(load(folder).test["target"]) == {0, 1}


def test_splits_must_agree_on_the_classes(tmp_path: Path) -> None:
    for path in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/fox/1.png"):
        write(tmp_path / path, 0)
    with pytest.raises(InvalidInput, match=r"same classes as train: \['cat', 'dog'\], not \['cat', 'fox'\]"):
        load(tmp_path)


def test_images_have_a_size(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="at least 1 pixel, not 0"):
        load(folder, 0)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("images:/data/My Pets", "my-pets"),
        ("images:pets/", "pets"),
        ("images:a.b/../c_d", "c-d"),
        ("images:/", "images"),
        ("mnist-5k", "mnist-5k"),
    ],
)
def test_name(reference: str, name: str) -> None:
    assert dataset_name(reference) == name


def test_here_is_named_as_the_folder_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert dataset_name("images:.") == "my-pets"


def test_other_data_sets_load_by_name() -> None:
    assert load_images("digits", SIZE).name == "digits"
    with pytest.raises(NotFound, match=r"no data set 'digts'; choose one of .*images:PATH"):
        load_images("digts", SIZE)


# The recipe for a folder


@pytest.mark.parametrize(("architecture", "start"), [("lenet5", "mnist-5k"), ("mlp", "digits")])
def test_a_folder_starts_from_the_quickest_recipe_for_images(architecture: str, start: str) -> None:
    recipe = recipes.recipe_for(architecture, "images:pets")
    quickest = recipes.recipe_for(architecture, start)
    assert (recipe.dataset, recipe.bar, recipe.epochs) == ("images:pets", None, quickest.epochs)


def test_a_module_may_say_what_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.recipes import lenet5

    own: Recipe = recipes.recipe_for("lenet5", "mnist")
    monkeypatch.setattr(lenet5, "FOLDER_RECIPE", own, raising=False)
    assert recipes.recipe_for("lenet5", "images:pets").validation_share == own.validation_share


def test_tables_do_not_learn_from_images() -> None:
    with pytest.raises(ZooError, match="perceptron does not learn from images"):
        recipes.recipe_for("perceptron", "images:pets")


# The cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what was decoded, call by call."""
    calls = []

    def counting(data: bytes, height: int, width: int, channels: int) -> Any:
        calls.append(height)
        return decode_image(data, height, width, channels)

    for module in (image_folder, cifar10):
        monkeypatch.setattr(module, "decode_image", counting)
    return calls


def test_files_are_decoded_once(folder: Path, decoded: list[int]) -> None:
    first = load(folder)
    assert len(decoded) == 20
    assert examples(load(folder)) == examples(first)
    assert len(decoded) == 20


def test_another_size_is_decoded_again(folder: Path, decoded: list[int]) -> None:
    load(folder, 4)
    assert load(folder, 6).train["image"].shape[1:] == (6, 6, 3)
    assert sorted(decoded) == [4] * 20 + [6] * 20


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "renamed"])
def test_a_changed_folder_is_decoded_again(folder: Path, change: str) -> None:
    before = load(folder)
    path = folder / "cat" / "1.png"
    match change:
        case "added":
            write(folder / "cat" / "new.png", 60)
        case "removed":
            path.unlink()
        case "replaced":
            changed = path.stat().st_mtime_ns
            write(path, 61)
            os.utime(path, ns=(changed + 1, changed + 1))  # however coarse the file system's clock is
        case "renamed":
            path.rename(folder / "dog" / "moved.png")
    after = load(folder)
    assert after.digest != before.digest
    assert examples(after) == expected(folder, *CLASSES)


def test_the_cache_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        cached("key", fail)
    assert not list((tmp_path / "home").rglob("*"))
    assert cached("key", lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / "home" / "cache").iterdir()] == ["key.npz"]
    assert cached("key", fail)["a"].tolist() == [0, 1, 2]


def test_many_may_write_one_entry_at_once() -> None:
    array = np.arange(100_000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cached("key", lambda: {"a": array})["a"], range(32)))
    assert all((each == array).all() for each in found)


# CIFAR-10


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_DATA."""
    directory = tmp_path / "given"
    directory.mkdir()
    monkeypatch.setenv("ZOO_DATA", str(directory))
    return directory


def archive(path: Path, labels: tuple[str, ...] = cifar10.LABELS) -> dict[tuple[str, int], bytes]:
    """Ten images a class in the layout of the real one, in no order; the pixels by class and number."""
    pixels = {}
    files = [(label, i) for i in (3, 1, 2, *range(4, 11)) for label in labels]
    with tarfile.open(path, "w:xz") as tar:
        top = tarfile.TarInfo("cifar10/train")
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        for seed, (label, i) in enumerate(files):
            buffer = io.BytesIO()
            picture(seed, 32, 32).save(buffer, "JPEG")
            member = tarfile.TarInfo(f"cifar10/train/{label}/{i:05}.jpg")
            member.size = buffer.tell()
            tar.addfile(member, io.BytesIO(buffer.getvalue()))
            pixels[label, i] = decode_image(buffer.getvalue(), 32, 32, 3).tobytes()
    return pixels


def test_cifar10_from_the_archive(given: Path, decoded: list[int]) -> None:
    pixels = archive(given / cifar10.ARCHIVE)
    assert datasets.find("cifar10").present()
    data = datasets.find("cifar10").load()
    assert "JPEG" in data.source
    assert data.train["image"].shape == (90, 32, 32, 3)
    assert np.bincount(data.test["target"]).tolist() == [1] * 10
    assert examples(data) == sorted((image, cifar10.LABELS.index(k)) for (k, _), image in pixels.items())
    again = datasets.find("cifar10").load()
    assert again.digest == data.digest
    assert len(decoded) == 100, "decoded twice"


def test_the_order_of_the_archive_does_not_matter(given: Path) -> None:
    """The split is the same for whoever packs the same files."""
    archive(given / cifar10.ARCHIVE)
    first = cifar10.load()
    with tarfile.open(given / cifar10.ARCHIVE) as packed:
        files = [(m, packed.extractfile(m)) for m in packed.getmembers()]
        with tarfile.open(given / "other", "w:xz") as tar:
            for member, content in reversed(files):
                tar.addfile(member, content)
    (given / "other").rename(given / cifar10.ARCHIVE)
    assert cifar10.load().digest == first.digest


@pytest.mark.parametrize("fault", ["no archive", "cut off", "other classes", "a class short"])
def test_a_broken_archive_is_named(given: Path, tmp_path: Path, fault: str) -> None:
    path = given / cifar10.ARCHIVE
    labels = {"other classes": ("zebra", *cifar10.LABELS[1:]), "a class short": cifar10.LABELS[1:]}
    archive(path, labels.get(fault, cifar10.LABELS))
    if fault == "no archive":
        path.write_text("an error page")
    elif fault == "cut off":
        path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InvalidInput, match=f"{cifar10.ARCHIVE} is no readable archive"):
        cifar10.load()
    assert not list((tmp_path / "home").rglob("*.npz"))


def test_cifar10_from_torchvision(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in torchvision's own format; their checksums, which it checks, are made up with them."""
    import hashlib

    from torchvision.datasets import CIFAR10

    folder = given / cifar10.TORCHVISION
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    target = np.arange(100) % 10

    def put(name: str, content: dict[str, object]) -> tuple[str, str]:
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        return name, hashlib.md5(raw).hexdigest()

    flat = images.transpose(0, 3, 1, 2).reshape(100, -1)
    batch = put("data_batch_1", {"data": flat, "labels": target.tolist()})
    name, checksum = put("batches.meta", {"label_names": list(cifar10.LABELS)})
    monkeypatch.setattr(CIFAR10, "train_list", [batch])
    monkeypatch.setattr(CIFAR10, "test_list", [])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": checksum})
    assert cifar10.is_present()
    data = cifar10.load()
    assert "torchvision" in data.source
    assert np.bincount(data.test["target"]).tolist() == [1] * 10
    assert examples(data) == sorted(
        (image.tobytes(), int(k)) for image, k in zip(images, target, strict=True)
    )


def test_the_archive_comes_first(given: Path) -> None:
    (given / cifar10.TORCHVISION).mkdir()
    archive(given / cifar10.ARCHIVE)
    assert "JPEG" in cifar10.load().source


def test_cifar10_that_is_nowhere(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    assert not cifar10.is_present()
    with pytest.raises(NotFound, match=rf"not in {given} or .* could not be fetched .*put {cifar10.ARCHIVE}"):
        cifar10.load()


# Few examples


def test_few_per_class() -> None:
    data = datasets.find("digits").load()
    few, again, other = (few_per_class(data, 7, seed) for seed in (0, 0, 1))
    assert np.bincount(few.train["target"]).tolist() == [7] * 10
    np.testing.assert_array_equal(few.train["image"], again.train["image"])
    assert not np.array_equal(few.train["image"], other.train["image"])
    assert set(map(bytes, few.train["image"])) <= set(map(bytes, data.train["image"]))
    assert few.test is data.test
    assert few.digest == data.digest == hold_out(few, 0.1, 0).digest
    assert few_per_class(data, None, 0) is data


@pytest.mark.parametrize(
    ("count", "message"),
    [(0, "at least 1 training example a class is needed, not 0"), (10_000, "fewer than 10000")],
)
def test_too_few_to_choose_from(count: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        few_per_class(datasets.find("digits").load(), count, 0)
