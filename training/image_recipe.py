"""Common base of the recipes of image classifiers: data, augmentation, transfer, memory format."""

from abc import ABC
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import tyro
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from training import figures
from training.augment import Augmentation
from training.datasets import Data, image_folder
from training.datasets.base import few_per_class
from training.objectives.base import Objective
from training.objectives.classification import Classification, ImageOptions
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained
from training.transfer import IMAGENET, Transfer, Weights, load, registered_weights
from zoo.errors import NotFound, ZooError
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification

VIEWS = 8  # augmented views of an image in a figure
MEMORY_FORMATS = {
    "auto": torch.channels_last,
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(Recipe, ABC):
    """Recipe of a model that maps images to classes."""

    optimizer: Optimizer = Optimizer()
    label_smoothing: float = 0.0
    """Probability mass moved from the target class to all classes."""
    augmentation: Augmentation = Augmentation()
    transfer: Annotated[Transfer, tyro.conf.arg(name="")] = Transfer()
    mirrored: bool = False
    """The exported graph averages its answers to an image and to its mirror image: more accurate if left and
    right do not matter, at twice the computation (the papers of AlexNet and VGG16 do so)."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "channels_last"
    """Memory layout of images; auto measures which is faster."""
    images_per_class: int | None = None
    """Train on only this many images of each class."""
    image_size: int = 32
    """Side in pixels to which the images of a folder (images:PATH) are resized."""

    kinds: ClassVar[tuple[str, ...]] = ("image_classification",)

    @property
    def dataset_name(self) -> str:
        return image_folder.dataset_name(self.dataset)

    def load_data(self) -> Data:
        data = image_folder.load_images(self.dataset, self.image_size)
        if self.images_per_class is None:
            return data
        return few_per_class(data, self.images_per_class, self.seed)

    def candidates(self) -> tuple[Recipe, ...]:
        formats = ("channels_last", "contiguous") if self.memory_format == "auto" else (self.memory_format,)
        return tuple(
            replace(recipe, memory_format=memory_format)  # type: ignore[call-arg]  # of an ImageRecipe
            for recipe, memory_format in product(super().candidates(), formats)
        )

    def rival(self) -> Recipe | None:
        if self.transfer.pretrained is None or not self.transfer.compare:
            return None
        return replace(self, transfer=Transfer())

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, ImageClassification)
        frozen = self.transfer.frozen(model, steps // self.epochs)
        if frozen is not None and fabric.world_size > 1:
            raise ZooError("a part that is frozen for a while needs training on one device")
        return Classification(
            model,
            task,
            self.optimizer,
            fabric,
            steps,
            self.label_smoothing,
            ImageOptions(
                self.augmentation,
                MEMORY_FORMATS[self.memory_format],
                self.transfer.rates(model),
                frozen,
                self.mirrored,
            ),
        )

    def pretrain(self, model: nn.Module) -> list[str]:
        reference = self.transfer.pretrained
        if reference is None:
            return []
        given = self.imagenet_weights() if reference == IMAGENET else registered_weights(reference)
        return load(model, given)

    def imagenet_weights(self) -> Weights:
        """Returns weights trained on ImageNet, by parameter name; raises `NotFound` if there are none."""
        raise NotFound(f"there are no ImageNet weights for {self.architecture}; vgg16 has some")

    def report(self, trained: Trained) -> Report:
        reported = super().report(trained)
        if self.augmentation.parts():
            reported.figures["augmentation"] = views(self.augmentation, trained.data.train["image"])
        return reported


def views(augmentation: Augmentation, images: NDArray[np.uint8]) -> Figure:
    """Shows the first image of [N, H, W, C] under each change of an augmentation, several times."""
    torch.manual_seed(0)
    image, partners = torch.from_numpy(images[:1]), torch.from_numpy(images[1 : VIEWS + 1])
    rows = {"as it is": np.repeat(images[:1], VIEWS, axis=0)}
    for name, part in augmentation.parts().items():
        # mixup needs two images; the first of each pair is shown.
        drawn = [part.views(torch.cat([image, partner[None]]))[0] for partner in partners]
        rows[name] = torch.stack(drawn).numpy()
    return figures.image_table(np.stack(list(rows.values())), "augmentation", list(rows))
