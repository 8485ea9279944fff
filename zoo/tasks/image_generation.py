"""Image generation: one random latent vector per image to images of the requested classes.

An evaluation needs a judge, a trained classifier. Its metrics are a Fréchet distance and precision and
recall between the judge's features of generated and of real images (Heusel et al. 2017, "GANs Trained by
a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", arXiv:1706.08500; Kynkäänniemi et al.
2019, "Improved Precision and Recall Metric for Assessing Generative Models", arXiv:1904.06991), and the
share of images that the judge recognises as the requested class. The papers' judge is Inception, ours is a
classifier of our own: no value is comparable with published FIDs, nor with one under another judge.

Shape legend: N images, Z latent size, H height, W width, C channels (1 grey, 3 RGB), D features, K classes.
"""

import base64
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from zoo import metrics
from zoo.errors import InvalidInput
from zoo.images import decode_base64, decode_png, encode_png, grid
from zoo.tasks.agreement import agree
from zoo.tasks.base import Arrays, Request, Response, Run, Schema, Task, run_in_batches
from zoo.tasks.labels import label_index

MAX_COUNT = 256  # images in one request
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
EXAMPLE_SEED = 0
NEIGHBOURS = 3  # k of precision and recall, as in the paper
MANIFOLD_POINTS = 2000  # maximum number of images per side in precision and recall, as all pairs are compared


Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


def _seed_or_random(seed: Any) -> Any:
    return secrets.randbelow(2**32) if seed is None else seed


class GenerateImagesRequest(Request):
    """A number of images, all of one class or of each class in turn. The same seed gives the same images."""

    count: Annotated[int, Field(ge=1, le=MAX_COUNT, description="How many images.")] = 1
    seed: Annotated[
        Seed,
        Field(
            default_factory=lambda: _seed_or_random(None),
            description="The same seed gives the same images; a random one where none is given.",
        ),
        BeforeValidator(_seed_or_random, json_schema_input_type=Seed | None),
    ]
    class_: Annotated[
        str | int | None,
        Field(alias="class", description="A label or its index; without it, each class in turn."),
    ] = None


class GenerateImagesResponse(Response):
    """The images, the requested class of each, and the seed that reproduces them."""

    images: Annotated[list[str], Field(description="PNG files as base64.")]
    classes: list[str]
    seed: int


class ImageGeneration(Task):
    """Graph: `latent` float32 [N, Z], standard normal, and `class` int64 [N] -> `image` float32 [N, H, W, C].

    Intensities of the images range from 0 to 1.
    """

    kind: Literal["image_generation"] = "image_generation"
    height: int
    width: int
    channels: int
    labels: tuple[str, ...]
    latent_size: int = 64
    """Z. Not a statistic of the data: a recipe may choose another."""

    endpoint: ClassVar[str] = "/generate_images"
    payload: ClassVar[str | None] = None
    max_batch: ClassVar[int] = MAX_COUNT
    names_data_sets: ClassVar[bool] = False  # it generates such data, and answers no requests about them
    primary_metric: ClassVar[str] = "frechet_distance"
    higher_is_better: ClassVar[bool] = False
    request_type: ClassVar[type[GenerateImagesRequest]] = GenerateImagesRequest
    response_type: ClassVar[type[Response]] = GenerateImagesResponse
    inputs: ClassVar[tuple[str, ...]] = ("latent", "class")
    outputs: ClassVar[tuple[str, ...]] = ("image",)

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        _, height, width, channels = train["image"].shape
        return cls(height=height, width=width, channels=channels, labels=schema.labels)

    def encode(self, request: GenerateImagesRequest) -> Arrays:
        return {"latent": self._latents(request.seed, request.count), "class": self._classes(request)}

    def decode(self, request: GenerateImagesRequest, outputs: Arrays) -> dict[str, Any]:
        images = [base64.b64encode(encode_png(image)).decode() for image in pixels(outputs)]
        classes = [self.labels[k] for k in self._classes(request)]
        return {"images": images, "classes": classes, "seed": request.seed}

    def picture(self, request: GenerateImagesRequest, inputs: Arrays, outputs: Arrays) -> bytes:
        """Returns a PNG file of all images in a grid, row by row; its text `seed` reproduces them."""
        return encode_png(grid(list(pixels(outputs))), {"seed": str(request.seed)})

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """Returns a request for the inputs of `example_inputs`; raises `InvalidInput` for any others.

        A seed cannot be computed from latents.
        """
        count = len(examples["latent"])
        expected = self.example_inputs(count)
        if any(not np.array_equal(examples[name], expected[name]) for name in self.inputs):
            raise InvalidInput("only the latents of example_inputs() can be asked for again")
        return {"model": model, "count": count, "seed": EXAMPLE_SEED}

    def example_inputs(self, batch: int) -> Arrays:
        return {"latent": self._latents(EXAMPLE_SEED, batch), "class": self._in_turn(batch)}

    def choices(self) -> dict[str, int]:
        return {"class": len(self.labels)}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Returns the metrics of a generator that is followed by a judge, against real images.

        `run` takes `latent` and `class` and returns the judge's `features` [N, D] and `probabilities`
        [N, K]; the split holds the judge's `features` [N, D] of N > NEIGHBOURS real images and their
        `target` [N]. The requested classes are the targets, so each class is as frequent on both sides.
        """
        target, real = split["target"].astype(np.int64), split["features"]
        inputs: Arrays = {"latent": self._latents(EXAMPLE_SEED, len(target)), "class": target}
        outputs = run_in_batches(run, inputs)
        made = outputs["features"]
        points = min(len(target), MANIFOLD_POINTS)
        some = np.random.default_rng(0).choice(len(target), points, replace=False)
        return {
            "frechet_distance": metrics.frechet_distance(real, made),
            "recognised": metrics.accuracy(target, outputs["probabilities"]),
            "precision": metrics.manifold_coverage(real[some], made[some], NEIGHBOURS),
            "recall": metrics.manifold_coverage(made[some], real[some], NEIGHBOURS),
        }

    def baseline(self, train: Arrays) -> dict[str, Any]:
        return {}  # the inputs are drawn, not sent: they cannot drift

    def agrees(self, answer: dict[str, Any], expected: dict[str, Any]) -> bool:
        """Returns True if answers agree, with images that differ by at most one of 255 levels.

        Rounding may differ by a level on another machine.
        """
        ours, theirs = (
            np.array([decode_png(decode_base64(image)) for image in side["images"]], np.int16)
            for side in (answer, expected)
        )
        return (
            ours.shape == theirs.shape
            and bool(np.abs(ours - theirs).max() <= 1)
            and agree({**answer, "images": []}, {**expected, "images": []})
        )

    def _latents(self, seed: int, count: int) -> NDArray[np.float32]:
        """Returns latents [count, Z]; a larger count begins with the same ones."""
        random = np.random.default_rng(seed)
        return random.standard_normal((count, self.latent_size), dtype=np.float32)

    def _classes(self, request: GenerateImagesRequest) -> NDArray[np.int64]:
        if request.class_ is None:
            return self._in_turn(request.count)
        return np.full(request.count, label_index(request.class_, self.labels, "class"), np.int64)

    def _in_turn(self, count: int) -> NDArray[np.int64]:
        return np.arange(count, dtype=np.int64) % len(self.labels)


def pixels(outputs: Arrays) -> NDArray[np.uint8]:
    """Converts intensities from 0 to 1 to uint8 [N, H, W, C]."""
    levels: NDArray[np.uint8] = np.rint(outputs["image"].clip(0, 1) * 255).astype(np.uint8)
    return levels
