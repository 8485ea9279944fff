"""Recurrent layers in torch's fused form; each becomes one operator in an ONNX graph.

torch's exporter would unroll an Elman layer step by step, for one sequence length only; ONNX has an operator
for each of the three kinds, which takes any length.

Shape legend: B batch, T time, I inputs, H hidden width, L layers, G gates.
"""

import torch
from torch import Tensor, nn

OPSET = 14  # the version that introduced the current form of the three operators
# Operator, indices of torch's gates in ONNX's order, and attributes.
OPERATORS: dict[type[nn.RNNBase], tuple[str, tuple[int, ...], dict[str, int]]] = {
    nn.RNN: ("RNN", (0,), {}),
    nn.GRU: ("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # r z n -> z r h
    nn.LSTM: ("LSTM", (0, 3, 1, 2), {}),  # i f g o -> i o f c
}

State = tuple[Tensor, ...]
"""State after a sequence: the hidden state and, for an LSTM, the cell state, each [L, B, H]."""


class Recurrence(nn.Module):
    """A stack of layers: sequence [B, T, I] -> outputs of the last layer [B, T, H]. Subclasses are final."""

    def __init__(self, fused: nn.RNNBase) -> None:
        """Wraps a torch layer with `batch_first=True`."""
        super().__init__()
        self.fused = fused

    def forward(self, sequence: Tensor) -> Tensor:
        outputs, _ = self.run(sequence)
        return outputs

    @property
    def width(self) -> int:
        """Hidden width H."""
        return self.fused.hidden_size

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Number of tensors in a state, and the axes L and H of each."""
        return (2 if isinstance(self.fused, nn.LSTM) else 1), self.fused.num_layers, self.fused.hidden_size

    def initial(self, sequence: Tensor) -> State:
        """Returns the initial state, zeros, for a sequence [B, T, I]."""
        parts, layers, width = self.state_shape
        return tuple(sequence.new_zeros(layers, sequence.shape[0], width) for _ in range(parts))

    def run(self, sequence: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Returns outputs [B, T, H] and the state after the sequence; without a state, starts from zeros."""
        given = self.initial(sequence) if state is None else state
        if torch.onnx.is_in_onnx_export():
            return self._operators(sequence, given)
        outputs, after = self.fused(sequence, given if isinstance(self.fused, nn.LSTM) else given[0])
        return outputs, after if isinstance(after, tuple) else (after,)

    def _operators(self, sequence: Tensor, state: State) -> tuple[Tensor, State]:
        maps = sequence.transpose(0, 1)  # [B, T, I] -> [T, B, I]
        operator, order, attributes = OPERATORS[type(self.fused)]
        after = []
        for layer in range(self.fused.num_layers):
            weights = [getattr(self.fused, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh")]
            biases = [getattr(self.fused, f"{name}_l{layer}") for name in ("bias_ih", "bias_hh")]
            first, second = (_reorder(weight, order)[None] for weight in weights)  # [1, G H, I], [1, G H, H]
            bias = torch.cat([_reorder(bias, order) for bias in biases])[None]  # [1, 2 G H]
            before = [part[layer : layer + 1] for part in state]  # [1, B, H]
            time, batch, _ = maps.shape
            shapes = [(time, 1, batch, self.fused.hidden_size), *(tuple(part.shape) for part in before)]
            outputs, *ended = torch.onnx.ops.symbolic_multi_out(
                operator,
                (maps, first, second, bias, None, *before),
                {"hidden_size": self.fused.hidden_size, **attributes},
                dtypes=[maps.dtype] * len(shapes),
                shapes=shapes,
                version=OPSET,
            )
            maps = outputs[:, 0]  # [T, 1, B, H] -> [T, B, H]
            after.append(ended)
        states = tuple(torch.cat(parts) for parts in zip(*after, strict=True))
        return maps.transpose(0, 1), states


def _reorder(parameter: Tensor, order: tuple[int, ...]) -> Tensor:
    """Returns a parameter [G H, ...] with its gates in the given order."""
    width = len(parameter) // len(order)
    return torch.cat([parameter[place * width : (place + 1) * width] for place in order])
