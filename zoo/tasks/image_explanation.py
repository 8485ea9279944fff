"""Explanation of an image classification by occlusion sensitivity, which needs only the graph.

A patch of the training split's mean colour is moved over the image; the more the label's probability falls,
the more it depended on what the patch covers (Zeiler & Fergus 2014, "Visualizing and Understanding
Convolutional Networks", arXiv:1311.2901, section 4.2). The paper shows the probability itself at the position
of the patch; here each pixel has the fall averaged over the patches that cover it.

Shape legend: P patches, H height, W width, C channels (1 grey, 3 RGB), K classes.
"""

import math
from itertools import product
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from zoo.errors import InvalidInput
from zoo.images import encode_png
from zoo.tasks.base import Arrays, Request, Response
from zoo.tasks.image_classification import MAX_LISTS, Files, ImageClassification, Pixels, require_one_source
from zoo.tasks.labels import label_index
from zoo.tasks.operation import Operation

PATCHES_A_SIDE = 4  # a patch's side is the image's divided by this; patches overlap by half
SHOWN_SIDE = 224  # minimum number of pixels on a picture's longer side
FULL_COLOUR = 0.1  # change in probability that gets the full colour, unless a larger one occurs
OPACITY = 0.8  # of the full colour
# Vermilion where covering lowers the label's probability, blue where it raises it: Okabe & Ito's colours,
# which readers with any colour vision can distinguish.
FALLS, RISES = (213, 94, 0), (0, 114, 178)

Area = tuple[slice, slice]
"""Rows and columns that a patch covers."""


class ExplainImageRequest(Request):
    """Heat map of where the model looked in one image, encoded (`image`) or as nested lists (`pixels`)."""

    files: ClassVar[tuple[str, ...]] = ("image",)
    max_lists: ClassVar[int] = MAX_LISTS
    max_lists_per_digit: ClassVar[int] = 2

    image: Files = None
    pixels: Pixels = None
    label: Annotated[
        str | int | None,
        Field(description="The label to explain, or its index; without it, the most probable one."),
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        require_one_source(self.image, self.pixels)
        return self

    def without_inputs(self) -> Self:
        return self.model_copy(update={"image": None, "pixels": None})


class ExplainImageResponse(Response):
    """Fall of the label's probability when a pixel is covered, for each pixel."""

    label: str
    probability: Annotated[float, Field(description="Of the label, with nothing covered.")]
    heatmap: Annotated[list[list[float]], Field(description="Rows of pixels; negative where it rises.")]


def _encode(task: ImageClassification, request: ExplainImageRequest) -> Arrays:
    """Returns the image and a copy of it for each patch: uint8 [1 + P, H, W, C]."""
    if isinstance(request.image, list) and len(request.image) > 1:
        raise _too_many(len(request.image))
    images = task.images(request.image, request.pixels)
    if len(images) > 1:
        raise _too_many(len(images))
    if request.label is not None:
        label_index(request.label, task.labels, "label")
    areas = _areas(task)
    copies = np.repeat(images, 1 + len(areas), axis=0)
    cover = np.rint(task.pixel_mean).astype(np.uint8)
    for copy, area in zip(copies[1:], areas, strict=True):
        copy[area] = cover
    return {"image": copies}


def _too_many(count: int) -> InvalidInput:
    return InvalidInput(f"{count} images; one is explained at a time")


def _decode(task: ImageClassification, request: ExplainImageRequest, outputs: Arrays) -> dict[str, Any]:
    probabilities = outputs["probabilities"]
    index = _explained(task, request, probabilities[0])
    heat = _heat(task, probabilities[:, index])
    return {
        "label": task.labels[index],
        "probability": float(probabilities[0, index]),
        "heatmap": heat.tolist(),
    }


def _picture(
    task: ImageClassification, request: ExplainImageRequest, inputs: Arrays, outputs: Arrays
) -> bytes:
    """Returns a PNG file of the image in grey under the heat map, enlarged for viewing."""
    probabilities = outputs["probabilities"]
    index = _explained(task, request, probabilities[0])
    heat = _heat(task, probabilities[:, index])
    times = math.ceil(SHOWN_SIDE / max(task.height, task.width))
    image = inputs["image"][0].mean(axis=2).repeat(times, axis=0).repeat(times, axis=1)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(image.shape[::-1], Image.Resampling.BICUBIC)
    share = np.asarray(smooth)[..., None] / max(FULL_COLOUR, np.abs(heat).max())
    colour = np.where(share > 0, FALLS, RISES)
    strength = OPACITY * np.abs(share).clip(0, 1)
    shown = image[..., None] * (1 - strength) + colour * strength  # [H, W, 3]
    texts = {"label": task.labels[index], "probability": f"{probabilities[0, index]:.4f}"}
    return encode_png(np.rint(shown).astype(np.uint8), texts)


def _explained(task: ImageClassification, request: ExplainImageRequest, probabilities: NDArray[Any]) -> int:
    if request.label is None:
        return int(probabilities.argmax())
    return label_index(request.label, task.labels, "label")


def _heat(task: ImageClassification, probability: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the heat map [H, W] of a label's probabilities [1 + P]: without a patch, then with each."""
    total, covered = np.zeros((2, task.height, task.width))
    for area, value in zip(_areas(task), probability[1:], strict=True):
        total[area] += probability[0] - value
        covered[area] += 1
    return total / covered


def _areas(task: ImageClassification) -> list[Area]:
    """Returns P patches that cover the whole image."""
    return list(product(_stretches(task.height), _stretches(task.width)))


def _stretches(side: int) -> list[slice]:
    """Returns slices of about a quarter of a side, about an eighth apart, from its beginning to its end."""
    patch = max(1, round(side / PATCHES_A_SIDE))
    starts = np.unique(np.rint(np.linspace(0, side - patch, 2 * PATCHES_A_SIDE - 1)).astype(int))
    return [slice(start, start + patch) for start in starts.tolist()]


EXPLAIN_IMAGE = Operation(
    ImageClassification,
    "/explain_image",
    ExplainImageRequest,
    ExplainImageResponse,
    _encode,
    _decode,
    _picture,
    picture_first=True,
)
