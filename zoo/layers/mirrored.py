"""Test-time averaging over an image and its mirror image.

Source: Simonyan & Zisserman (2014), arXiv:1409.1556, section 3.2; Krizhevsky, Sutskever & Hinton (2012),
doi:10.1145/3065386, section 4.1, who also average over five crops.

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from torch import Tensor, nn


class Mirrored(nn.Module):
    """Images [B, H, W, C] -> mean of a classifier's probabilities [B, K] for each and its mirror image."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        mean: Tensor = (self.classifier(image) + self.classifier(image.flip(2))) / 2
        return mean
