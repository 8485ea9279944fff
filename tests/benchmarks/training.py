"""Images a second of LeNet-5 training: the zoo with tracking on, against two loops written by hand.

    python -m tests.benchmarks.training [--dataset mnist] [--rounds 5] [--epochs 2]

- zoo: `training.loop` as `zoo train` runs it, logging to a fresh MLflow store with system metrics;
- resident: the data set as normalised float tensors in memory, a bare loop, no tracking;
- textbook: a Dataset whose `__getitem__` normalises one image, behind a shuffling DataLoader.

All three train the same network with the same optimiser and batch size on the same images, with glibc's
malloc thresholds pinned, in one process, in turn; the medians over rounds and their ratios are printed.
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from training import tracking
from training.datasets import find
from training.loop import Points, Progress
from training.memory import keep_freed_memory
from training.pipeline import prepare, train_prepared
from training.recipes import recipe_for
from training.recipes.lenet5 import LeNet5Recipe
from zoo.models.lenet5 import LeNet5

BATCH = 128


@dataclass(frozen=True)
class Benchmark:
    """LeNet-5 training against hand-written loops."""

    dataset: str = "mnist"
    rounds: int = 5
    epochs: int = 2


class Images(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """One normalised image at a time."""

    def __init__(self, image: torch.Tensor, target: torch.Tensor) -> None:
        self.image, self.target = image, target

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.image[index].float() / 255 - 0.1307) / 0.3081, self.target[index]


def zoo_seconds(recipe: LeNet5Recipe) -> float:
    """Seconds of the loop, points sent to MLflow included."""
    prepared = prepare(recipe)
    with tracking.run("benchmark", recipe.dataset) as log:

        def observe(progress: Progress, points: Points) -> None:
            log.points(points)

        started = time.perf_counter()
        train_prepared(prepared, observe, Path(os.environ["ZOO_HOME"]) / f"{log.run_id}.pt")
        log.flush()
        return time.perf_counter() - started


def step(model: LeNet5, optimizer: torch.optim.Optimizer, image: torch.Tensor, target: torch.Tensor) -> None:
    """One update of a hand-written loop."""
    loss = F.cross_entropy(model(image), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def resident_seconds(recipe: LeNet5Recipe, image: torch.Tensor, target: torch.Tensor) -> float:
    """Seconds of a bare loop over tensors in memory."""
    model, optimizer = fresh(recipe)
    pixels = (image.float() / 255 - 0.1307) / 0.3081
    started = time.perf_counter()
    for _ in range(recipe.epochs):
        for index in torch.randperm(len(target)).split(BATCH):
            step(model, optimizer, pixels[index], target[index])
    return time.perf_counter() - started


def textbook_seconds(recipe: LeNet5Recipe, image: torch.Tensor, target: torch.Tensor) -> float:
    """Seconds of a Dataset behind a DataLoader."""
    model, optimizer = fresh(recipe)
    loader = DataLoader(Images(image, target), batch_size=BATCH, shuffle=True)
    started = time.perf_counter()
    for _ in range(recipe.epochs):
        for batch_image, batch_target in loader:
            step(model, optimizer, batch_image, batch_target)
    return time.perf_counter() - started


def fresh(recipe: LeNet5Recipe) -> tuple[LeNet5, torch.optim.Optimizer]:
    """A new network and its optimiser."""
    model = LeNet5(recipe.model, channels=1, size=28, classes=10)
    rate, decay = recipe.optimizer.learning_rate, recipe.optimizer.weight_decay
    return model, torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)


def main(given: Benchmark) -> None:
    """Runs the rounds and prints the table."""
    keep_freed_memory()
    default = recipe_for("lenet5", given.dataset)
    assert isinstance(default, LeNet5Recipe)
    recipe = replace(default, epochs=given.epochs, batch_size=BATCH, validation_share=0.0)
    train = find(given.dataset).load().train
    image = torch.from_numpy(train["image"]).permute(0, 3, 1, 2).contiguous()  # [N, 1, 28, 28]
    target = torch.from_numpy(train["target"])
    runners = {
        "zoo": lambda: zoo_seconds(recipe),
        "resident": lambda: resident_seconds(recipe, image, target),
        "textbook": lambda: textbook_seconds(recipe, image, target),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_HOME"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        for _ in range(given.rounds):
            for name, runner in runners.items():
                seconds[name].append(runner())
    images = recipe.epochs * len(target)
    for name, times in seconds.items():
        ratios = [other / own for own, other in zip(seconds["zoo"], times, strict=True)]
        print(  # noqa: T201
            f"{name:9} {images / statistics.median(times):8,.0f} images/s   "
            f"zoo is {statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
