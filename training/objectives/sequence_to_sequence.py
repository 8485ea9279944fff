"""Sequence to sequence: predicts each target token from the source and the earlier target tokens.

Label smoothing is Szegedy et al.'s (2016), "Rethinking the Inception Architecture for Computer Vision",
arXiv:1512.00567, as in section 5.4 of Vaswani et al. (2017), arXiv:1706.03762.

Shape legend: B batch, S source tokens, T target tokens, V vocabulary.
"""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.export import as_run
from training.objectives.base import Exhibits, Objective, Tensors, clipped_update, exportable
from training.optimizer import Optimizer
from zoo.models.transformer import DecoderStep, Encoder, Transformer
from zoo.tasks.sequence_to_sequence import PADDING, SequenceToSequence, TransformTextRequest

VALIDATED = 64  # rows at a time: logits [B, T, V] of more need too much memory


class NextTargetToken(Objective):
    """Minimises the smoothed cross entropy of the target's tokens."""

    def __init__(
        self,
        model: Transformer,
        task: SequenceToSequence,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        label_smoothing: float,
        clip: float,
    ) -> None:
        """Clips gradients to the norm `clip`."""
        self.model, self.task = model, task
        self.label_smoothing, self.clip = label_smoothing, clip
        rule, schedule = optimizer.build(model, steps)
        self.forward, rule = fabric.setup(model, rule)
        self.fabric = fabric
        super().__init__(model, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        batch = {name: trimmed(tokens) for name, tokens in batch.items()}
        loss = self._loss(batch, self.label_smoothing)
        both = torch.cat([tokens.flatten() for tokens in batch.values()])
        padding = (both == PADDING).float().mean()
        return {**clipped_update(self, self.fabric, self.forward, [loss], self.clip), "padding": padding}

    def validate(self, batch: Tensors) -> Tensors:
        """Returns the loss in nats per target token."""
        parts = [
            {name: trimmed(tokens[start : start + VALIDATED]) for name, tokens in batch.items()}
            for start in range(0, len(batch["target"]), VALIDATED)
        ]
        counts = torch.stack([(part["target"][:, 1:] != PADDING).sum() for part in parts])
        losses = torch.stack([self._loss(part, 0.0) for part in parts])
        return {"loss": (losses * counts).sum() / counts.sum()}

    def export_module(self) -> nn.Module:
        model = exportable(self.model)
        assert isinstance(model, Transformer)
        return nn.ModuleDict({"encoder": Encoder(model), "decoder": DecoderStep(model)}).eval()

    def exhibits(self) -> Exhibits:
        """Returns greedy outputs for some training texts."""
        texts = list(self.task.opening)
        request = TransformTextRequest(model="-", text=texts, beam_size=1)
        made = self.task.answer(as_run(self.export_module(), self.task), request)["texts"]
        return {"examples": "\n\n".join(f"{a}\n-> {b}" for a, b in zip(texts, made, strict=True))}

    def _loss(self, batch: Tensors, label_smoothing: float) -> Tensor:
        source, target = batch["source"], batch["target"]
        logits = self.forward(source, target[:, :-1])  # [B, T - 1, V]
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            target[:, 1:].flatten(),
            ignore_index=PADDING,
            label_smoothing=label_smoothing,
        )


def trimmed(tokens: Tensor) -> Tensor:
    """Cuts tokens [B, T] to [B, longest]: drops the columns at the end that are only padding."""
    return tokens[:, : int((tokens != PADDING).sum(dim=1).max())]
