"""Printed letters: the capitals A to Z in sixteen typefaces, randomly rotated, sheared and stretched.

Made from matplotlib's fonts, white on black in 28x28 pixels like MNIST's digits. Synthetic images need no
labelling, and models trained on them transfer to real ones: Jaderberg, Simonyan, Vedaldi & Zisserman (2014),
"Synthetic Data and Artificial Neural Networks for Natural Scene Text Recognition", arXiv:1406.2227.
"""

import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "printed-letters"
KIND = "image_classification"
SOURCE = "made here, seed 0, with matplotlib's fonts"
LETTERS = tuple(string.ascii_uppercase)
TYPEFACES = ("DejaVuSans", "DejaVuSans-*", "DejaVuSansMono*", "DejaVuSerif", "DejaVuSerif-*", "STIXGeneral*")
IMAGES = 250  # per letter
SIDE, CANVAS = 28, 56  # pixels; drawn twice as large, then reduced, for smooth edges
HEIGHT = 44  # font size, so that a capital is about as high as MNIST's digits: 20 of 28 pixels


def load() -> Data:
    """Draws 5,200 training and 1,300 test images uint8 [28, 28, 1]."""
    from matplotlib import get_data_path

    folder = Path(get_data_path(), "fonts", "ttf")
    fonts = [
        ImageFont.truetype(path, HEIGHT)
        for pattern in TYPEFACES
        for path in sorted(folder.glob(f"{pattern}.ttf"))
    ]
    draw = np.random.default_rng(0)
    target = np.repeat(np.arange(len(LETTERS)), IMAGES)
    image = np.stack([_print(LETTERS[k], fonts[draw.integers(len(fonts))], draw) for k in target])
    schema = Schema(labels=LETTERS, target="letter")
    return split_examples(NAME, KIND, schema, SOURCE, {"image": image[..., None]}, target)


def _print(letter: str, font: ImageFont.FreeTypeFont, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Draws one letter with random distortions, uint8 [28, 28]."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), letter, fill=255, font=font, anchor="mm")
    angle, shear = draw.uniform(-0.25, 0.25), draw.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    change = (
        turn @ np.array([[1, shear], [0, 1]]) * draw.uniform(0.85, 1.3, 2)
    )  # from the result to the canvas
    middle = np.full(2, CANVAS / 2)
    shift = middle - change @ middle
    map_ = (*change[0], shift[0], *change[1], shift[1])
    moved = canvas.transform(canvas.size, Image.Transform.AFFINE, map_, Image.Resampling.BILINEAR)
    return np.asarray(moved.resize((SIDE, SIDE), Image.Resampling.BOX))


DATASET = DataSet(NAME, KIND, "6,500 images 28x28", "none needed", SOURCE, load)
