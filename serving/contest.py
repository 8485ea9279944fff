"""A request in a challenge: the version that answers it, and the outputs to compare afterwards."""

from hashlib import blake2b
from typing import TYPE_CHECKING

from zoo.tasks import Arrays

if TYPE_CHECKING:
    from serving.catalogue import Challenge, Served


class Contest:
    """Request for a model whose champion has a challenger."""

    __slots__ = ("answering", "challenge", "champion", "inputs", "outputs")

    def __init__(self, champion: "Served", challenge: "Challenge", key: bytes) -> None:
        """Requests with the same `key` get the same version, as long as the share does not change."""
        self.champion = champion
        self.challenge = challenge
        share = challenge.mode.share
        self.answering = challenge.challenger if share and place(key) < share else champion
        self.inputs: Arrays | None = None
        """Inputs of the graph; None until it has computed the single run that the answer takes."""
        self.outputs: Arrays = {}

    def computed(self, inputs: Arrays, outputs: Arrays) -> None:
        """Stores the inputs and the answering version's outputs for the comparison."""
        self.inputs, self.outputs = inputs, outputs


def place(key: bytes) -> float:
    """Maps a key to a number in [0, 1), evenly distributed and the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=6).digest()) / 2**48
