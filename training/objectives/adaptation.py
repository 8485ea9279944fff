"""Low-rank adaptation: the surprise of a decoder at what it is to say, by few parameters of it.

Shape legend: B batch, T tokens, V vocabulary.
"""

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.export import as_run
from training.low_rank import additions, merge
from training.objectives.base import Exhibits, Objective, Tensors, clipped_update, exportable
from training.optimizer import Optimizer
from zoo.models.llama import Llama, LlamaStep
from zoo.tasks.conversations import UNSAID
from zoo.tasks.language_modelling import GenerateTextRequest, LanguageModelling, Message

VALIDATED = 16  # rows at a time: logits [B, T, V] of more would fill the memory
QUESTIONS = ("What is the capital of France?", "My computer is slow. What can I do?", "Tell me a joke.")


class Adaptation(Objective):
    """Minimises the cross entropy of the target tokens [B, T] that are to be said."""

    def __init__(
        self,
        model: Llama,
        task: LanguageModelling,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        clip: float,
    ) -> None:
        """Gradients of a larger norm than `clip` are shortened to it."""
        self.model, self.task, self.clip = model, task, clip
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        tokens, target = trimmed(batch["tokens"], batch["target"])
        loss = _surprise(self.forward(tokens), target) / (target != UNSAID).sum()
        return clipped_update(self, self.fabric, self.forward, [loss], self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        """Nats a token."""
        rows = zip(*(torch.split(batch[name], VALIDATED) for name in ("tokens", "target")), strict=True)
        parts = [trimmed(tokens, target) for tokens, target in rows]
        surprise = torch.stack([_surprise(self.forward(tokens), target) for tokens, target in parts]).sum()
        return {"loss": surprise / (batch["target"] != UNSAID).sum()}

    def export_module(self) -> nn.Module:
        """With the additions in the weights."""
        model = exportable(self.model)
        assert isinstance(model, Llama)
        merge(model)
        return LlamaStep(model).eval()

    def exhibits(self) -> Exhibits:
        """What it answers."""
        return {"answers": answers(self.export_module(), self.task)}

    def weights(self) -> Tensors:
        """The additions alone: the rest stays as it was."""
        return {name: tensor.clone() for name, tensor in additions(self.model).items()}

    def load_weights(self, weights: Tensors) -> None:
        self.model.load_state_dict(weights, strict=False)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "weights": self.weights()}


def answers(module: nn.Module, task: LanguageModelling) -> str:
    """Some questions, and what a module answers to each."""
    run, lines = as_run(module, task), []
    for question in QUESTIONS:
        messages = [Message(role="user", content=question)]
        request = GenerateTextRequest(model="-", messages=messages, max_tokens=48, temperature=0)
        lines += [question, f"-> {task.answer(run, request)['text']}", ""]
    return "\n".join(lines)


def trimmed(tokens: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both [B, longest] of [B, T]: without the columns after the last token that is to be said."""
    longest = int((target != UNSAID).any(dim=0).nonzero()[-1]) + 1
    return tokens[:, :longest], target[:, :longest]


def _surprise(logits: Tensor, target: Tensor) -> Tensor:
    """Nats of [B, T, V] at [B, T], all together."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), target.flatten(), ignore_index=UNSAID, reduction="sum"
    )
