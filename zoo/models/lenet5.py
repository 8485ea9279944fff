"""LeNet-5, a convolutional network for characters, which was used to read cheques.

Source: LeCun, Bottou, Bengio & Haffner (1998), "Gradient-Based Learning Applied to Document Recognition",
doi:10.1109/5.726791.

Deviations, now usual (61,706 parameters): C3 sees all six maps of S2 instead of the paper's
table of subsets; pooling has no trainable coefficients; tanh is not scaled by 1.7159; the output layer is
affine with softmax instead of radial basis functions. The modern variant is the same network with
`activation="relu"` and `pooling="max"`.

Shape legend: B batch, C channels, K classes.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

RETINA = 32  # the paper's input size; smaller images are padded to it


@dataclass(frozen=True)
class LeNet5Config:
    """Configuration of LeNet-5; the defaults are the paper's, the modern variant is relu with max."""

    activation: Literal["tanh", "relu"] = "tanh"
    """Non-linearity after each hidden layer."""
    pooling: Literal["average", "max"] = "average"
    """Kind of pooling in S2 and S4."""


class LeNet5(nn.Module):
    """Image classifier: [B, C, 28..32, 28..32] -> logits [B, K]."""

    def __init__(self, config: LeNet5Config, channels: int, size: int, classes: int) -> None:
        super().__init__()
        if not 28 <= size <= RETINA or size % 2:  # smaller images leave no map for C5
            raise ValueError(f"LeNet-5 takes images of 28, 30 or 32 pixels, not {size}; choose the MLP")
        self.config = config
        activation = nn.Tanh if config.activation == "tanh" else nn.ReLU
        pooling = nn.AvgPool2d if config.pooling == "average" else nn.MaxPool2d
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=(RETINA - size) // 2),  # C1: [B, 6, 28, 28]
            activation(),
            pooling(2),  # S2: [B, 6, 14, 14]
            nn.Conv2d(6, 16, 5),  # C3: [B, 16, 10, 10]
            activation(),
            pooling(2),  # S4: [B, 16, 5, 5]
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # [B, 16, 5, 5] -> [B, 400]
            nn.Linear(400, 120),  # C5
            activation(),
            nn.Linear(120, 84),  # F6
            activation(),
            nn.Linear(84, classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image))
        return logits
