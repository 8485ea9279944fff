"""Recurrent layers in torch's fused form, each of which is one operator in an ONNX graph.

torch's exporter would write an Elman layer out step by step, for one length of sequence only; ONNX has an
operator for each of the three kinds, which takes any.

Shape legend: B batch, T time, I inputs, H hidden width, L layers, G gates.
"""

import torch
from torch import Tensor, nn

OPSET = 14  # since which the three operators are what they are
# Operator, the places of torch's gates in ONNX's order, and attributes.
OPERATORS: dict[type[nn.RNNBase], tuple[str, tuple[int, ...], dict[str, int]]] = {
    nn.RNN: ("RNN", (0,), {}),
    nn.GRU: ("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # r z n -> z r h
    nn.LSTM: ("LSTM", (0, 3, 1, 2), {}),  # i f g o -> i o f c
}

State = tuple[Tensor, ...]
"""Each [L, B, H]: the hidden state, and an LSTM's cell state."""


class Recurrence(nn.Module):
    """A stack of layers: sequence [B, T, I] -> outputs of the last layer [B, T, H]. Subclasses are final."""

    def __init__(self, fused: nn.RNNBase) -> None:
        """`fused` takes the batch first."""
        super().__init__()
        self.fused = fused

    def forward(self, sequence: Tensor) -> Tensor:
        outputs, _ = self.run(sequence)
        return outputs

    @property
    def width(self) -> int:
        """H."""
        return self.fused.hidden_size

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """How many tensors a state has, and two of the axes of each: L and H."""
        return (2 if isinstance(self.fused, nn.LSTM) else 1), self.fused.num_layers, self.fused.hidden_size

    def initial(self, sequence: Tensor) -> State:
        """Zeros, as a sequence [B, T, I] needs them."""
        parts, layers, width = self.state_shape
        return tuple(sequence.new_zeros(layers, sequence.shape[0], width) for _ in range(parts))

    def run(self, sequence: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Outputs [B, T, H] and the state after the sequence; from zeros where no state is given."""
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
    """[G H, ...] with its gates in another order."""
    width = len(parameter) // len(order)
    return torch.cat([parameter[place * width : (place + 1) * width] for place in order])
