"""Language modelling: cross entropy of each next token, in nats.

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
from zoo.tasks.conversations import UNSAID
from zoo.tasks.language_modelling import MOST_LOGITS, STREAMS, LanguageModelling
from zoo.tasks.memory import RecurrentState


class NextToken(Objective):
    """Minimises the cross entropy of the next tokens [B, T]; each row of a batch starts from a zero state."""

    def __init__(
        self,
        model: nn.Module,
        task: LanguageModelling,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        clip: float,
    ) -> None:
        """Clips gradients to the norm `clip`."""
        self.task, self.clip = task, clip
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        return clipped_update(self, self.fabric, self.forward, [self._loss(batch)], self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        """Reads consecutive rows as one text, in STREAMS parts at once, as `LanguageModelling.evaluate`."""
        streams = min(STREAMS, len(batch["tokens"]))
        rows = len(batch["tokens"]) // streams  # per part
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
        return {"sample": _sample(self.export_module(), self.task)}

    def _loss(self, batch: Tensors) -> Tensor:
        logits, _ = self.forward(batch["tokens"], self._start(len(batch["tokens"])))
        return _surprise(logits, batch["target"])

    def _start(self, texts: int) -> Tensor:
        memory = self.task.memory
        assert isinstance(memory, RecurrentState)
        return next(self.network.parameters()).new_zeros(texts, *memory.shape)


class NextTokenInContext(Objective):
    """Minimises the cross entropy of the next tokens [B, T], each given the earlier tokens of its row.

    Targets that are UNSAID do not count.
    """

    def __init__(
        self,
        model: Llama,
        task: LanguageModelling,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        clip: float,
        accumulate: int = 1,
    ) -> None:
        """Reads the rows of a step in `accumulate` parts; clips gradients to the norm `clip`."""
        self.model, self.task, self.clip, self.accumulate = model, task, clip, accumulate
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        rows = -(-len(batch["target"]) // self.accumulate)
        return clipped_update(self, self.fabric, self.forward, self._losses(batch, rows), self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        """Returns the loss in nats per token."""
        rows = max(1, MOST_LOGITS // (batch["target"].shape[1] * self.task.vocabulary))
        return {"loss": torch.stack(list(self._losses(batch, rows))).sum()}

    def export_module(self) -> nn.Module:
        model = exportable(self.model)
        assert isinstance(model, Llama)
        return LlamaStep(model).eval()

    def exhibits(self) -> Exhibits:
        """A text that the model writes."""
        return {"sample": _sample(self.export_module(), self.task)}

    def _losses(self, batch: Tensors, rows: int) -> Iterator[Tensor]:
        """Yields the contribution of each `rows` rows to the mean loss of the batch, computed on demand."""
        said = (batch["target"] != UNSAID).sum()
        parts = (torch.split(batch[name], rows) for name in ("tokens", "target"))
        for tokens, target in zip(*parts, strict=True):
            read, follow = trimmed(tokens, target)
            yield _surprise(self.forward(read), follow, "sum") / said


def trimmed(tokens: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts tokens and targets [B, T] to [B, longest]: drops the columns after the last target not UNSAID."""
    longest = int((target != UNSAID).any(dim=0).nonzero()[-1]) + 1
    return tokens[:, :longest], target[:, :longest]


def _sample(module: nn.Module, task: LanguageModelling) -> str:
    return str(task.answer(as_run(module, task), task.sample)["text"])


def _surprise(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Returns the cross entropy in nats of logits [B, T, V] at targets [B, T], ignoring UNSAID ones."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), target.flatten(), ignore_index=UNSAID, reduction=reduction
    )
