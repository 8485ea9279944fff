"""Language modelling: the surprise at each next token, in nats.

Shape legend: B batch, T time, V vocabulary.
"""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.export import as_run
from training.objectives.base import Exhibits, Objective, Tensors, clipped_update, exportable
from training.optimizer import Optimizer
from zoo.models.llama import Llama, LlamaStep
from zoo.tasks.language_modelling import SAMPLE, STREAMS, LanguageModelling
from zoo.tasks.memory import RecurrentState

VALIDATED = 64  # rows at a time: logits [B, T, V] of more would fill the memory


class NextToken(Objective):
    """Minimises the cross entropy of the next tokens [B, T]; each row of a batch begins with no state."""

    def __init__(
        self,
        model: nn.Module,
        task: LanguageModelling,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        clip: float,
    ) -> None:
        """Gradients of a larger norm than `clip` are shortened to it."""
        self.task, self.clip = task, clip
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        return clipped_update(self, self.fabric, self.forward, [self._loss(batch)], self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        """As `LanguageModelling.evaluate`: rows that follow one another are read as one, in STREAMS parts."""
        streams = min(STREAMS, len(batch["tokens"]))
        rows = len(batch["tokens"]) // streams  # of each part
        tokens, target = (
            batch[name][: streams * rows].view(streams, rows, -1).unbind(1) for name in ("tokens", "target")
        )
        state, losses = self._start(streams), []
        for read, follow in zip(tokens, target, strict=True):
            logits, state = self.forward(read, state)
            losses.append(_surprise(logits, follow))
        return {"loss": torch.stack(losses).mean()}

    def export_module(self) -> nn.Module:
        return exportable(self.network)

    def exhibits(self) -> Exhibits:
        """A text that the model writes."""
        return {"sample": self.task.answer(as_run(self.export_module(), self.task), SAMPLE)["text"]}

    def _loss(self, batch: Tensors) -> Tensor:
        logits, _ = self.forward(batch["tokens"], self._start(len(batch["tokens"])))
        return _surprise(logits, batch["target"])

    def _start(self, texts: int) -> Tensor:
        memory = self.task.memory
        assert isinstance(memory, RecurrentState)
        return next(self.network.parameters()).new_zeros(texts, *memory.shape)


class NextTokenInContext(Objective):
    """Minimises the cross entropy of the next tokens [B, T], each given those before it in its row."""

    def __init__(
        self,
        model: Llama,
        task: LanguageModelling,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        clip: float,
        accumulate: int,
    ) -> None:
        """A step's rows are read in `accumulate` parts; gradients longer than `clip` are shortened to it."""
        self.model, self.task, self.clip, self.accumulate = model, task, clip, accumulate
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        rows = -(-len(batch["target"]) // self.accumulate)
        return clipped_update(self, self.fabric, self.forward, self._losses(batch, rows), self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        return {"loss": torch.stack(list(self._losses(batch, VALIDATED))).sum()}

    def export_module(self) -> nn.Module:
        model = exportable(self.model)
        assert isinstance(model, Llama)
        return LlamaStep(model).eval()

    def exhibits(self) -> Exhibits:
        """A text that the model writes."""
        most = SAMPLE.max_tokens if self.task.places is None else self.task.places - 1
        asked = SAMPLE.model_copy(update={"max_tokens": min(SAMPLE.max_tokens, most)})
        return {"sample": self.task.answer(as_run(self.export_module(), self.task), asked)["text"]}

    def _losses(self, batch: Tensors, rows: int) -> Iterator[Tensor]:
        """Of so many rows at a time, what they add to the mean of the batch; each computed when asked for."""
        parts = (torch.split(batch[name], rows) for name in ("tokens", "target"))
        for tokens, target in zip(*parts, strict=True):
            yield _surprise(self.forward(tokens), target) * (len(target) / len(batch["target"]))


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """Mean nats of [B, T, V] at [B, T]."""
    return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten())
