"""Image classification: PNG, JPEG or raw pixels to one label per image.

Shape legend: N images, H height, W width, C channels (1 grey, 3 RGB), K classes.
"""

import base64
import math
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from zoo.errors import InvalidInput
from zoo.images import decode_base64, decode_images, encode_png
from zoo.tasks.agreement import alike_labels
from zoo.tasks.base import MAX_BATCH, Arrays, Request, Response, Run, Schema, Task, run_in_batches
from zoo.tasks.baseline import distribution
from zoo.tasks.labels import ClassifyResponse, classification_metrics, label_predictions

BASELINE_BINS = 16  # equal bins of the intensities 0 to 255
WARMTH = "red_less_blue"
"""Baseline name of the difference between red and blue.

It changes if photographs are inverted, unlike intensities that lie evenly between black and white.
"""
GRID = 8  # maximum number of grid points per side at which pixels are compared with the baseline

MAX_LISTS = MAX_BATCH + 1024
"""Maximum number of lists in a request, apart from those of pixels."""

File = str | SkipJsonSchema[bytes]
"""A file, as base64 or as bytes from a form."""
Files = Annotated[
    File | Annotated[list[File], Field(min_length=1, max_length=MAX_BATCH, fail_fast=True)] | None,
    Field(description="PNG or JPEG as base64, base64url or data URL, or a list of them."),
]
Pixels = Annotated[
    list[Any] | None,
    Field(description="Integers 0-255 as [H][W], [H][W][C], [N][H][W] or [N][H][W][C]."),
]


def require_one_source(image: File | list[File] | None, pixels: list[Any] | None) -> None:
    """Raises `ValueError` unless a request has exactly one of the two."""
    if (image is None) == (pixels is None):
        raise ValueError("give either `image` or `pixels`")


class ClassifyImageRequest(Request):
    """One image or several, encoded (`image`) or as nested lists (`pixels`)."""

    files: ClassVar[tuple[str, ...]] = ("image",)
    max_lists: ClassVar[int] = MAX_LISTS
    max_lists_per_digit: ClassVar[int] = 2

    image: Files = None
    pixels: Pixels = None
    top_k: Annotated[int | None, Field(ge=1, description="Only the most probable labels.")] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        require_one_source(self.image, self.pixels)
        return self

    def without_inputs(self) -> Self:
        return self.model_copy(update={"image": None, "pixels": None})


class ImageClassification(Task):
    """Graph: `image` uint8 [N, H, W, C] -> `probabilities` float32 [N, K]."""

    kind: Literal["image_classification"] = "image_classification"
    height: int
    width: int
    channels: int
    labels: tuple[str, ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]

    endpoint: ClassVar[str] = "/classify_image"
    payload: ClassVar[str | None] = "image"
    primary_metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    request_type: ClassVar[type[ClassifyImageRequest]] = ClassifyImageRequest
    response_type: ClassVar[type[Response]] = ClassifyResponse
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    outputs: ClassVar[tuple[str, ...]] = ("probabilities",)

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        image = train["image"]
        _, height, width, channels = image.shape
        # 256 counts per channel give the exact moments without a float copy of the whole split.
        counts = np.stack([np.bincount(image[..., c].ravel(), minlength=256) for c in range(channels)])
        levels = np.arange(256)
        mean = counts @ levels / counts.sum(axis=1)
        std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
        return cls(
            height=height,
            width=width,
            channels=channels,
            labels=schema.labels,
            pixel_mean=tuple(mean.tolist()),
            pixel_std=tuple(np.where(std > 0, std, 1.0).tolist()),
        )

    def encode(self, request: ClassifyImageRequest) -> Arrays:
        return {"image": self.images(request.image, request.pixels)}

    def decode(self, request: ClassifyImageRequest, outputs: Arrays) -> dict[str, Any]:
        return {"predictions": label_predictions(outputs["probabilities"], self.labels, request.top_k)}

    def alike(self, outputs: Arrays, other: Self, others: Arrays) -> NDArray[np.bool_]:
        """Returns for each example True if both versions favour the same label."""
        ours, theirs = outputs["probabilities"], others["probabilities"]
        return alike_labels(ours, self.labels, theirs, other.labels)

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        images = [base64.b64encode(encode_png(image)).decode() for image in examples["image"]]
        return {"model": model, "image": images[0] if len(images) == 1 else images}

    def example_inputs(self, batch: int) -> Arrays:
        shape = (batch, self.height, self.width, self.channels)
        return {"image": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        outputs = run_in_batches(run, {"image": split["image"]})
        return classification_metrics(split["target"], outputs["probabilities"])

    def baseline(self, train: Arrays) -> dict[str, Any]:
        baseline = {}
        width = 256 // BASELINE_BINS
        for channel in range(self.channels):
            counts = np.bincount(train["image"][..., channel].ravel() // width, minlength=BASELINE_BINS)
            edges = [float(width * i) for i in range(1, BASELINE_BINS)]
            baseline[f"channel_{channel}"] = {"edges": edges, "shares": (counts / counts.sum()).tolist()}
        if self.channels == 3:
            baseline[WARMTH] = distribution(self.observed(train["image"])[:, -1].ravel())
        return baseline

    def observed_names(self) -> tuple[str, ...]:
        channels = tuple(f"channel_{channel}" for channel in range(self.channels))
        return (*channels, WARMTH) if self.channels == 3 else channels

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        """Returns intensities on a grid over each image; for colour images also red minus blue."""
        down, right = math.ceil(self.height / GRID), math.ceil(self.width / GRID)
        grid = asked[:, down // 2 :: down, right // 2 :: right]
        values = grid.reshape(len(grid), -1, self.channels).swapaxes(1, 2)  # [N, C, P]
        if self.channels < 3:
            return values
        colours = values.astype(np.int16)
        return np.concatenate([colours, colours[:, :1] - colours[:, 2:]], axis=1)

    def images(self, image: File | list[File] | None, pixels: list[Any] | None) -> NDArray[np.uint8]:
        """Reads encoded images or pixels as uint8 [N, H, W, C]; raises `InvalidInput` if they do not fit."""
        if pixels is not None:
            return self._from_pixels(pixels)
        files = image if isinstance(image, list) else [image or ""]
        contents = [file if isinstance(file, bytes) else decode_base64(file) for file in files]
        return decode_images(contents, self.height, self.width, self.channels)

    def _from_pixels(self, pixels: list[Any]) -> NDArray[np.uint8]:
        """Returns nested lists in any of the four accepted shapes as uint8 [N, H, W, C]."""
        if (grey := self._grey(pixels)) is not None:
            return grey
        expected = (self.height, self.width, self.channels)
        shape, values = _flat(pixels)
        if list in set(map(type, values)):
            raise InvalidInput(f"pixels: ragged nested lists; expected shape {expected}")
        if not {int, float}.issuperset(map(type, values)):  # numpy takes a text's size for every value
            raise InvalidInput("pixels: expected integers from 0 to 255")
        array = np.array(values).reshape(shape)
        if array.dtype.kind not in "iuf" or not ((array >= 0) & (array <= 255)).all():
            raise InvalidInput("pixels: expected integers from 0 to 255")
        if array.dtype.kind == "f" and (array % 1 != 0).any():
            raise InvalidInput("pixels: expected integers from 0 to 255, not fractions")
        if self.channels == 1 and array.shape[-2:] == expected[:2]:
            array = array[..., None]
        if array.ndim == 3:
            array = array[None]
        if array.ndim != 4 or array.shape[1:] != expected or not 1 <= len(array) <= MAX_BATCH:
            raise InvalidInput(f"pixels: shape {shape}; expected {expected} or 1 to {MAX_BATCH} of them")
        return array.astype(np.uint8)

    def _grey(self, pixels: list[Any]) -> NDArray[np.uint8] | None:
        """Returns rows of grey images as uint8 [N, H, W, 1]; None for any other input.

        Handles the most common requests in a third of the time that numpy takes to inspect nested lists.
        """
        try:
            one = type(pixels[0][0]) is int
            if self.channels != 1 or not (one or type(pixels[0][0][0]) is int) or len(pixels) > MAX_BATCH:
                return None
            heights = {len(pixels)} if one else {*map(len, pixels)}
            rows = pixels if one else [*chain.from_iterable(pixels)]
            if heights != {self.height} or {*map(len, rows)} != {self.width}:
                return None
            content = b"".join(map(bytes, rows))
        except (TypeError, ValueError, LookupError):  # not lists of integers from 0 to 255
            return None
        return np.frombuffer(content, np.uint8).reshape(-1, self.height, self.width, 1)


def _flat(nested: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Returns shape and values of nested lists; ragged lists and those below 4 levels remain lists."""
    shape, values = [len(nested)], nested
    while len(shape) < 4 and set(map(type, values)) == {list} and len({*map(len, values)}) == 1:
        shape.append(len(values[0]))
        values = [*chain.from_iterable(values)]
    return tuple(shape), values
