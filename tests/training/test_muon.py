"""Muon against torch's own, and what it leaves to AdamW."""

import pytest
import torch
from torch import nn

from training.muon import Muon, hidden_matrices, orthogonalise
from training.optimizer import Optimizer
from zoo.models.llama import Llama, LlamaConfig
from zoo.models.vgg16 import VGG16, VGG16Config


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_all_singular_values_come_near_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    before = torch.linalg.svdvals(matrix)
    after = torch.linalg.svdvals(orthogonalise(matrix, steps=5))
    assert before.max() > 1.5 * before.min()
    assert after.min() > 0.6  # what its coefficients converge to
    assert after.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.diag(left.T @ orthogonalise(matrix) @ right.T).min() > 0.1  # the same directions


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_steps_are_those_of_torchs_muon(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([{"params": [ours], "orthogonal": True}], 0.1, 0.0, 0.9, (0.9, 0.999), 0.2)
    peer = torch.optim.Muon([theirs], 0.1, weight_decay=0.2, momentum=0.9, ns_steps=3)
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step()
        peer.step()  # type: ignore[no-untyped-call]
    assert (ours - start).norm() > 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # torch's iteration is in bfloat16


def test_kernels_are_matrices_in_either_memory_format() -> None:
    torch.manual_seed(0)
    kernels, gradient = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    steps = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(kernels.clone(memory_format=memory_format))
        parameter.grad = gradient.clone(memory_format=memory_format)
        Muon([{"params": [parameter], "orthogonal": True}], 1.0, 0.0, 0.0, (0.9, 0.999), 0.0).step()
        steps.append((kernels - parameter).flatten(1))
    torch.testing.assert_close(*steps)
    torch.testing.assert_close(steps[0], orthogonalise(gradient.flatten(1)))


def test_the_rest_is_adamws() -> None:
    torch.manual_seed(0)
    start = torch.randn(7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon = Muon([{"params": [ours]}], 1.0, 0.1, 0.9, (0.8, 0.95), 0.2)
    peer = torch.optim.AdamW([theirs], 0.1, (0.8, 0.95), weight_decay=0.2)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        peer.step()
    torch.testing.assert_close(ours, theirs)


def test_vectors_embeddings_and_the_last_layer_are_not_orthogonal() -> None:
    network = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 4),
            "recurrent": nn.LSTM(4, 3),
            "norm": nn.LayerNorm(3),
            "output": nn.Linear(3, 5),
        }
    )
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    chosen = {names[id(parameter)] for parameter in hidden_matrices(network)}
    assert chosen == {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0"}


def test_where_the_embedding_is_the_output_all_layers_are_hidden() -> None:
    model = Llama(LlamaConfig(layers=2), 5)
    embedding, *matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    assert embedding is model.embedding.weight
    assert {*map(id, hidden_matrices(model))} == {*map(id, matrices)}
    assert len(matrices) == 2 * 7


def test_a_part_with_its_own_rate_keeps_it() -> None:
    network = VGG16(VGG16Config(width=2, hidden=4), 1, 28, 3)
    setting = Optimizer("muon", 0.1, momentum=0.9, other_learning_rate=0.01)
    rule, _ = setting.build(network, 10, ((network.classifier, 0.5),))
    assert [(group["lr"], group["orthogonal"]) for group in rule.param_groups] == [
        (0.5, False),
        (0.1, True),
        (0.01, False),
    ]
    assert sum(len(group["params"]) for group in rule.param_groups) == len(list(network.parameters()))


def test_it_goes_on_from_its_state() -> None:
    def steps(network: nn.Linear, rule: torch.optim.Optimizer, count: int) -> None:
        for step in range(count):
            for parameter in network.parameters():
                seed = torch.Generator().manual_seed(step)
                parameter.grad = torch.randn(parameter.shape, generator=seed)
            rule.step()

    def fresh() -> tuple[nn.Linear, Muon]:
        torch.manual_seed(0)
        network = nn.Linear(3, 3)
        groups = [{"params": [network.weight], "orthogonal": True}, {"params": [network.bias]}]
        return network, Muon(groups, 0.1, 0.01, 0.9, (0.9, 0.99), 0.1)

    (whole, rule), (parts, first), (resumed, second) = fresh(), fresh(), fresh()
    steps(whole, rule, 2)
    steps(whole, rule, 3)
    steps(parts, first, 2)
    resumed.load_state_dict(parts.state_dict())
    second.load_state_dict(first.state_dict())
    steps(resumed, second, 3)
    torch.testing.assert_close(list(resumed.parameters()), list(whole.parameters()), rtol=0, atol=0)
