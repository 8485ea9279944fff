"""Recipes for a generative adversarial network that makes images of each class."""

import logging
from dataclasses import dataclass
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training import figures
from training.datasets import Data, image_folder
from training.datasets.base import few_per_class
from training.judge import JUDGE, judge_of
from training.objectives.adversarial import Adversarial, Game
from training.objectives.base import Objective
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.recipes import recipe_for
from training.report import Report, Trained
from zoo.errors import ZooError
from zoo.models.gan import GAN, GANConfig
from zoo.tasks import Run, Task
from zoo.tasks.image_generation import ImageGeneration

log = logging.getLogger(__name__)

# DCGAN's settings, except for a learning rate five times as high: these smaller networks are stable with it.
ADAM = Optimizer("adam", 1e-3, betas=(0.5, 0.999))
JUDGED = 100  # images of each class
LOST = 0.5  # a class is lost if the judge recognises less than this share of its images


@dataclass(frozen=True, kw_only=True)
class GANRecipe(Recipe):
    """Conditional DCGAN, a generator against a discriminator (Goodfellow et al. 2014)."""

    model: GANConfig = GANConfig()
    game: Game = Game()
    generator: Optimizer = ADAM
    discriminator: Optimizer = ADAM
    images_per_class: int | None = None
    """Train on only this many images of each class."""
    image_size: int = 32
    """Side in pixels to which the images of a folder (images:PATH) are resized."""

    architecture: ClassVar[str] = "gan"
    paper: ClassVar[str] = "Goodfellow et al. 2014"
    parameters: ClassVar[int] = 150_386
    kinds: ClassVar[tuple[str, ...]] = ("image_generation",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None:
            raise ZooError("the losses of two opponents do not say when to stop: leave out --patience")

    @property
    def dataset_name(self) -> str:
        return image_folder.dataset_name(self.dataset)

    def load_data(self) -> Data:
        data = image_folder.load_images(self.dataset, self.image_size)
        return few_per_class(data, self.images_per_class, self.seed)

    def fit_task(self, data: Data) -> Task:
        if data.kind != "image_classification":
            raise ZooError(f"{self.architecture} learns from images with classes; {data.name} is {data.kind}")
        task = ImageGeneration.fit(data.train, data.schema)
        if task.height != task.width:
            raise ZooError(f"the GAN makes square images, not {task.height} x {task.width}")
        return task.model_copy(update={"latent_size": self.model.latent_size})

    def prerequisites(self) -> tuple[Recipe, ...]:
        """Returns the recipe of the judge, the classifier that evaluates the images."""
        return (recipe_for(JUDGE, self.dataset),)

    def evaluate(self, task: Task, run: Run, data: Data) -> dict[str, float]:
        judge = judge_of(self.dataset_name)
        real = {"target": data.test["target"], "features": judge.features(data.test["image"])}
        return task.evaluate(judge.after(run), real)

    def report(self, trained: Trained) -> Report:
        """Returns the usual report, with the classes that the judge assigns to images of each class."""
        task = trained.task
        assert isinstance(task, ImageGeneration)
        inputs = task.example_inputs(JUDGED * len(task.labels))
        answers = judge_of(self.dataset_name).after(trained.run)(inputs)
        taken_for = answers["probabilities"].argmax(axis=1)
        hits = taken_for == inputs["class"]
        by_class = [float(hits[inputs["class"] == k].mean()) for k in range(len(task.labels))]
        lost = [label for label, share in zip(task.labels, by_class, strict=True) if share < LOST]
        if lost:
            log.warning("%s: the judge does not recognise %s", self.model_name, ", ".join(lost))
        usual = super().report(trained)
        drawn = {"recognised": figures.confusion(inputs["class"], taken_for, task.labels)}
        metrics = {"recognised_least": min(by_class), "classes_recognised": float(len(by_class) - len(lost))}
        return Report(usual.figures | drawn, usual.metrics | metrics, usual.sections)

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, ImageGeneration)
        return GAN(self.model, task.channels, task.height, len(task.labels))

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, ImageGeneration)
        assert isinstance(model, GAN)
        return Adversarial(model, task, self.game, (self.generator, self.discriminator), fabric, steps)


# No schedule: with decreasing steps the discriminator memorises its images, and the variety shrinks.
RECIPES = (
    GANRecipe(
        dataset="mnist-5k",
        epochs=16,
        batch_size=32,
        threads=1,
        model=GANConfig(width=16),
        game=Game(averaging=0.99),
        bar=40.0,
    ),
)
LONG_RECIPES = (
    GANRecipe(
        dataset="mnist",
        epochs=10,
        batch_size=64,
        validation_share=1 / 12,
        precision="auto",
        model=GANConfig(width=32),
        bar=20.0,
    ),
    GANRecipe(
        dataset="fashion-mnist",
        epochs=10,
        batch_size=64,
        validation_share=1 / 12,
        precision="auto",
        model=GANConfig(width=32),
        bar=60.0,
    ),
)
