"""Convolution: the formula as loops, with torch, and as an ONNX graph; edges in a photograph.

For an image I and a kernel K, the course defines (I*K)(i, j) = Σₘ Σₙ I(i + m, j + n) K(m, n): each value of
the result is the similarity of the kernel and the part of the image under it. (Mathematicians flip the kernel
first; this makes no difference, because a network learns its kernels.) Hand-written kernels of nine numbers
find edges; LeNet-5 learns its own kernels.

Source: LeCun, Bottou, Bengio & Haffner (1998), doi:10.1109/5.726791; Goodfellow, Bengio & Courville (2016),
"Deep Learning", equation 9.6. Photograph: scikit-learn's `china.jpg`, by Gary Todd, CC BY 2.0.

Shape legend: H height, W width, h w of the kernel.
"""

import dataclasses
import io
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import onnx
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812

from training.figures import new_figure
from training.laboratory import Laboratory
from training.recipes import recipe_for
from training.study import Findings
from zoo.graph import Graph

Image = NDArray[np.float32]

KERNELS: dict[str, Image] = {
    "vertical edges (Sobel)": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32),
    "horizontal edges (Sobel)": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32),
    "all edges (Laplace)": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32),
    "blur": np.full((3, 3), 1 / 9, np.float32),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32),
}
PATCH = 48  # side of the part of the photograph that is convolved, small because the loops are slow
EPOCHS = 15


def by_hand(image: Image, kernel: Image) -> Image:
    """Computes I*K without padding in loops: [H, W], [h, w] -> [H - h + 1, W - w + 1]."""
    height, width = kernel.shape
    result = np.zeros((image.shape[0] - height + 1, image.shape[1] - width + 1), np.float32)
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            result[i, j] = sum(
                image[i + m, j + n] * kernel[m, n] for m in range(height) for n in range(width)
            )
    return result


def by_torch(image: Image, kernel: Image) -> Image:
    """Computes the same with `torch.nn.functional.conv2d`."""
    convolved = F.conv2d(torch.from_numpy(image)[None, None], torch.from_numpy(kernel)[None, None])
    return convolved[0, 0].numpy()  # [1, 1, H, W] -> [H, W]


def by_graph(image: Image, kernel: Image) -> Image:
    """Computes the same with an exported ONNX graph in ONNX Runtime."""
    layer = nn.Conv2d(1, 1, kernel.shape[0], bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(kernel)[None, None])
    example = torch.from_numpy(image)[None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program: Any = torch.onnx.export(
            layer, (example,), input_names=["image"], output_names=["map"], dynamo=True, verbose=False
        )
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    found: Image = Graph(buffer.getvalue())({"image": example.numpy()})["map"][0, 0]
    return found


METHODS: dict[str, Callable[[Image, Image], Image]] = {
    "by hand": by_hand,
    "torch": by_torch,
    "ONNX graph": by_graph,
}


def photograph() -> Image:
    """Returns a grey photograph [H, W] with intensities from 0 to 1."""
    from sklearn.datasets import load_sample_image

    grey: Image = load_sample_image("china.jpg").mean(axis=2).astype(np.float32) / 255
    return grey


def first_kernels(model: nn.Module) -> Image:
    """Returns the kernels [N, h, w] of a network's first convolution for the first input channel."""
    layer = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    kernels: Image = layer.weight.detach()[:, 0].numpy()
    return kernels


def run(laboratory: Laboratory) -> Findings:
    """Computes the formula in three ways, then compares hand-written kernels with learned ones."""
    photo = photograph()
    patch = photo[150 : 150 + PATCH, 250 : 250 + PATCH]
    expected = {name: by_hand(patch, kernel) for name, kernel in KERNELS.items()}
    metrics: dict[str, float] = {}
    for method, convolve in METHODS.items():
        with laboratory.run(method, {"method": method, "kernels": len(KERNELS), "side": PATCH}) as log:
            seconds, differences = [], []
            for name, kernel in KERNELS.items():
                started = time.perf_counter()
                result = convolve(patch, kernel)
                seconds.append(time.perf_counter() - started)
                differences.append(float(np.abs(result - expected[name]).max()))
            # The step of these metrics is the kernel.
            log.points({"seconds": list(enumerate(seconds)), "difference": list(enumerate(differences))})
            word = method.replace(" ", "_")
            metrics |= {
                f"seconds_{word}": median(seconds),
                f"largest_difference_{word}": max(differences),
            }
    recipe = dataclasses.replace(recipe_for("lenet5", "mnist-5k"), epochs=laboratory.scaled(EPOCHS), bar=None)
    with laboratory.trial("LeNet-5 learns its kernels", recipe) as trial:
        trial.train()
        metrics["lenet5_test_accuracy"] = trial.measure(trial.prepared.data.test)["accuracy"]
        trial.log.points({"test_accuracy": [(0, metrics["lenet5_test_accuracy"])]})
        learned = first_kernels(trial.prepared.model)
        digit: Image = trial.prepared.data.test["image"][0, :, :, 0].astype(np.float32)
    return Findings(_figure(photo, digit, learned), _conclusion(metrics), metrics)


def _conclusion(metrics: dict[str, float]) -> str:
    difference = max(value for name, value in metrics.items() if name.startswith("largest_difference"))
    return (
        f"The sum by hand, torch's conv2d and the ONNX graph give the same maps of {len(KERNELS)} kernels: "
        f"the largest difference is {difference:.1e} on intensities of 0 to 1. On {PATCH} x {PATCH} pixels "
        f"the loops by hand took {1000 * metrics['seconds_by_hand']:.0f} ms, conv2d "
        f"{1000 * metrics['seconds_torch']:.1f} ms. The six 5x5 kernels that LeNet-5 learned (test accuracy "
        f"{metrics['lenet5_test_accuracy']:.3f}) answer to strokes of certain directions, much as the edge "
        "kernels do."
    )


def _figure(photo: Image, digit: Image, learned: Image) -> Figure:
    """Draws a photograph convolved with the hand-written kernels, and a digit with the learned ones."""
    figure, axes = new_figure(2, 1 + len(learned), 2.0, 2.1)
    for axis in axes.flat:
        axis.axis("off")
    rows = ((photo, list(KERNELS.items())), (digit, [(f"learned {i + 1}", k) for i, k in enumerate(learned)]))
    for row, (image, kernels) in zip(axes, rows, strict=True):
        row[0].imshow(image, cmap="gray")
        row[0].set_title("image", fontsize=9)
        for axis, (name, kernel) in zip(row[1:], kernels, strict=False):
            convolved = by_torch(image, kernel)
            if name in ("blur", "sharpen"):  # they keep the brightness
                axis.imshow(convolved, cmap="gray", vmin=0, vmax=1)
            else:
                limit = np.quantile(np.abs(convolved), 0.98)
                axis.imshow(convolved, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(name, fontsize=9)
            inset = axis.inset_axes((0.0, 0.0, 0.28, 0.28))
            inset.imshow(kernel, cmap="RdBu_r", vmin=-np.abs(kernel).max(), vmax=np.abs(kernel).max())
            inset.set(xticks=[], yticks=[])
            inset.grid(visible=False)
    return figure
