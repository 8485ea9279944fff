"""What augmentation costs: training steps of VGG16 with every change on, against the same without.

    python -m tests.benchmarks.augmentation

The narrow VGG16 of the CIFAR-10 recipe at batch 128, random images of 32 x 32 pixels, fp32, in one process,
in turns; medians of five rounds.
"""

import dataclasses
import sys
import time
from statistics import median

import numpy as np
import torch
from lightning_fabric import Fabric

from training.augment import Augmentation
from training.image_recipe import ImageRecipe
from training.loop import to_tensors
from training.objectives.base import Objective, Tensors
from training.recipes import recipe_for
from zoo.tasks import Schema
from zoo.tasks.image_classification import ImageClassification

ROUNDS, STEPS = 5, 8
ALL = Augmentation(rotate=15, scale=0.2, flip=True, crop=4, colour=0.2, erase=0.25, mixup=0.2)


def images_a_second(objective: Objective, batch: Tensors) -> float:
    started = time.perf_counter()
    for _ in range(STEPS):
        float(objective.step(batch)["loss"])
    return STEPS * len(batch["target"]) / (time.perf_counter() - started)


def main() -> None:
    recipe = recipe_for("vgg16", "cifar10")
    assert isinstance(recipe, ImageRecipe)
    random = np.random.default_rng(0)
    arrays = {
        "image": random.integers(0, 256, (recipe.batch_size, 32, 32, 3), dtype=np.uint8),
        "target": random.integers(0, 10, recipe.batch_size),
    }
    task = ImageClassification.fit(arrays, Schema(labels=tuple("0123456789")))
    objectives = {}
    for name, augmentation in {"without": Augmentation(), "all on": ALL}.items():
        fabric = Fabric(accelerator="cpu")
        torch.manual_seed(0)
        made = dataclasses.replace(recipe, augmentation=augmentation, precision="32-true")
        objectives[name] = made.build_objective(made.build_model(task), task, fabric, 10_000)
        objectives[name].network.train()
    batch = to_tensors(arrays, Fabric(accelerator="cpu"))
    rates: dict[str, list[float]] = {name: [] for name in objectives}
    for _ in range(1 + ROUNDS):
        for name, objective in objectives.items():
            rates[name].append(images_a_second(objective, batch))
    medians = {name: median(found[1:]) for name, found in rates.items()}  # the first round warms up
    for name, rate in medians.items():
        sys.stdout.write(f"{name:8} {rate:7.0f} images/s\n")
    sys.stdout.write(f"all on is {medians['all on'] / medians['without']:.2f} of without\n")


if __name__ == "__main__":
    main()
