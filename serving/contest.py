"""One request in a challenge: who answers it, and what there is to compare afterwards."""

from hashlib import blake2b
from typing import TYPE_CHECKING

from zoo.tasks import Arrays

if TYPE_CHECKING:
    from serving.catalogue import Challenge, Served


class Contest:
    """A request for a model whose champion has a challenger."""

    __slots__ = ("answering", "challenge", "champion", "inputs", "outputs")

    def __init__(self, champion: "Served", challenge: "Challenge", key: bytes) -> None:
        """Requests of one key are always answered by the same of the two, while the share stays as it is."""
        self.champion = champion
        self.challenge = challenge
        share = challenge.mode.share
        self.answering = challenge.challenger if share and place(key) < share else champion
        self.inputs: Arrays | None = None
        """What the graph was given, once it has computed the one run that an answer takes."""
        self.outputs: Arrays = {}

    def computed(self, inputs: Arrays, outputs: Arrays) -> None:
        """Keeps what the challenger is to be compared by."""
        self.inputs, self.outputs = inputs, outputs


def place(key: bytes) -> float:
    """A number from 0 to below 1, spread evenly over keys, the same for a key at every time and place."""
    return int.from_bytes(blake2b(key, digest_size=6).digest()) / 2**48
