"""A language model around a recurrent network: token -> vector -> network -> logits of the next token.

Source: Mikolov et al. (2010), "Recurrent neural network based language model",
doi:10.21437/Interspeech.2010-343; dropout only outside the recurrence, as in Zaremba, Sutskever & Vinyals
(2014), "Recurrent Neural Network Regularization", arXiv:1409.2329.

Shape legend: B batch, T time, V vocabulary, S parts of the state, L layers, H hidden width.
"""

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


class RecurrentLanguageModel(nn.Module):
    """Language model: tokens [B, T] and state [B, S, L, H] -> logits [B, T, V] and the next state."""

    def __init__(self, recurrent: Recurrence, vocabulary: int, embedding: int, dropout: float) -> None:
        """Takes a network `recurrent` that reads vectors of `embedding` numbers."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = recurrent
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(recurrent.width, vocabulary)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        before = tuple(part.transpose(0, 1).contiguous() for part in state.unbind(1))  # S of [L, B, H]
        outputs, after = self.recurrent.run(self.dropout(self.embedding(tokens)), before)
        logits: Tensor = self.output(self.dropout(outputs))
        return logits, torch.stack([part.transpose(0, 1) for part in after], dim=1)
