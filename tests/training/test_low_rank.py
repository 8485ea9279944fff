"""Low-rank adaptation: what is added to which layers, what is learned, and that merging changes no answer."""

import pytest
import torch
from torch import nn

from training.low_rank import Adapted, LowRank, additions, merge
from zoo.errors import ZooError
from zoo.models.llama import Llama, LlamaConfig

CONFIG = LlamaConfig(layers=2, width=16, heads=2, key_value_heads=1, hidden=24)
TOKENS = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(0))


def adapted(settings: LowRank) -> tuple[Llama, Llama]:
    """A network, and the same one adapted, its additions no longer zero."""
    torch.manual_seed(0)
    plain, network = Llama(CONFIG, 11), Llama(CONFIG, 11)
    network.load_state_dict(plain.state_dict())
    settings.adapt(network)
    return plain.eval(), network.eval()


def learned(settings: LowRank) -> Llama:
    _, network = adapted(settings)
    for tensor in additions(network).values():
        tensor.normal_()
    return network


def test_it_begins_as_the_network_was() -> None:
    plain, network = adapted(LowRank())
    torch.testing.assert_close(network(TOKENS), plain(TOKENS), rtol=0, atol=0)


def test_what_is_added_is_a_scaled_product() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    wrapped = Adapted(layer, LowRank(rank=2, alpha=6))
    wrapped.up.data.normal_()
    x = torch.randn(4, 5)
    expected = layer(x) + 6 / 2 * x @ (wrapped.up @ wrapped.down).T
    torch.testing.assert_close(wrapped(x), expected)
    assert torch.linalg.matrix_rank(wrapped.merged().weight - layer.weight) == 2


@pytest.mark.parametrize("layers", ["query, value", "gate,up,down", "output"])
def test_additions_are_as_many_as_rank_and_widths_say(layers: str) -> None:
    _, network = adapted(LowRank(rank=4, layers=layers))
    names = [name.strip() for name in layers.split(",")]
    plain = Llama(CONFIG, 11)
    shapes = [
        layer.weight.shape
        for name, layer in plain.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in names
    ]
    added = additions(network)
    assert len(added) == 2 * len(shapes)
    assert sum(tensor.numel() for tensor in added.values()) == 4 * sum(sum(shape) for shape in shapes)


def test_only_additions_get_a_gradient() -> None:
    network = learned(LowRank())
    network(TOKENS).square().sum().backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert with_gradient == set(additions(network))


def test_merging_changes_no_answer() -> None:
    network = learned(LowRank(rank=4, layers="query, key, value, output, gate, up, down"))
    before = network(TOKENS)
    merge(network)
    plain = Llama(CONFIG, 11)
    assert network.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(network(TOKENS), before, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, adapted(LowRank())[0](TOKENS))


def test_dropout_is_for_training_alone() -> None:
    network = learned(LowRank(dropout=0.5))
    torch.testing.assert_close(network(TOKENS), network(TOKENS))
    network.train()
    assert not torch.allclose(network(TOKENS), network(TOKENS))


def test_what_cannot_be_adapted() -> None:
    with pytest.raises(
        ZooError, match="no layers keys; choose among down, gate, key, output, query, up, value"
    ):
        adapted(LowRank(layers="query, keys"))
    with pytest.raises(ZooError, match="rank must be at least 1, not 0"):
        LowRank(rank=0)
