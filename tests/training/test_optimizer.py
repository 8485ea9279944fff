"""The update rules against their formulas."""

import math
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from training.optimizer import Optimizer
from zoo.errors import ZooError

RATE, GRADIENT = 0.1, 2.0
FIRST_STEP = {  # change of a weight of 1 at a gradient of 2
    "sgd": -RATE * GRADIENT,
    "rmsprop": -RATE * GRADIENT / (math.sqrt(0.01 * GRADIENT**2) + 1e-8),
    "adam": -RATE,  # both moments, corrected for their start at zero, are the gradient's own
    "adamw": -RATE,
    "muon": -0.003,  # the last affine layer is AdamW's
}


def step(setting: Optimizer, weight: float = 1.0, times: int = 1) -> float:
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(module.weight, weight)
    rule, schedule = setting.build(module, times)
    for _ in range(times):
        module.weight.grad = torch.full((1, 1), GRADIENT, dtype=torch.float64)
        rule.step()
        schedule.step()
    return module.weight.item()


def test_table_is_complete() -> None:
    assert set(FIRST_STEP) == set(get_args(get_type_hints(Optimizer)["name"]))


@pytest.mark.parametrize("name", FIRST_STEP)
def test_first_step(name: str) -> None:
    assert step(Optimizer(name, RATE)) == pytest.approx(1 + FIRST_STEP[name], abs=1e-6)  # type: ignore[arg-type]


def test_momentum_keeps_a_share_of_the_last_step() -> None:
    steps = 1 + (1 + 0.5)  # in units of the first one
    assert step(Optimizer("sgd", RATE, momentum=0.5), times=2) == pytest.approx(1 - RATE * GRADIENT * steps)


def test_weight_decay_is_l2_in_sgd_and_decoupled_in_adamw() -> None:
    assert step(Optimizer("sgd", RATE, weight_decay=0.5)) == pytest.approx(1 - RATE * (GRADIENT + 0.5))
    assert step(Optimizer("adamw", RATE, weight_decay=0.5)) == pytest.approx(1 - RATE * 0.5 - RATE, abs=1e-6)
    assert step(Optimizer("adam", RATE, weight_decay=0.5)) == pytest.approx(1 - RATE, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("own_rate", [False, True])
def test_decoupled_decay_is_of_matrices_alone(name: str, own_rate: bool) -> None:
    """With gradients of 0 nothing else happens. The L2 penalty of sgd is one of all parameters."""
    network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    setting = Optimizer(name, RATE, weight_decay=0.5, other_learning_rate=RATE)  # type: ignore[arg-type]
    rule, _ = setting.build(network, 10, ((network[0], RATE),) if own_rate else ())
    rule.step()
    decayed = 1 - RATE * 0.5
    for parameter in network.parameters():
        expected = decayed if parameter.dim() == 2 or name == "sgd" else 1.0
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_inverse_square_root_falls_from_the_peak_where_the_warm_up_ends() -> None:
    schedule = "inverse-square-root"
    rule, scheduler = Optimizer("sgd", RATE, schedule=schedule, warmup=0.25).build(nn.Linear(1, 1), 16)
    rates = []
    for _ in range(16):
        rates.append(rule.param_groups[0]["lr"])
        rule.step()
        scheduler.step()
    assert rates == pytest.approx([RATE * min((n + 1) / 5, (5 / (n + 1)) ** 0.5) for n in range(16)])


def test_cosine_falls_from_the_peak_to_zero() -> None:
    rule, schedule = Optimizer("sgd", RATE, schedule="cosine").build(nn.Linear(1, 1), 4)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(4):
        rule.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates == pytest.approx([RATE * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(5)])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_setting_without_effect_is_refused(name: str) -> None:
    with pytest.raises(ZooError, match="momentum is for sgd, rmsprop and muon"):
        Optimizer(name, momentum=0.9).build(nn.Linear(1, 1), 1)  # type: ignore[arg-type]
