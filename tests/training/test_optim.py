"""The schedule, the decay and the bound."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from gnomonic.errors import ConfigError  # noqa: E402
from gnomonic.training.optim import build_optimizer, clip_gradients, learning_rate_at  # noqa: E402
from tests.training.tiny_stage import loop_config  # noqa: E402


def _rates(schedule: str, *, steps: int = 100, warmup: int = 10) -> list[float]:
    config = loop_config(schedule=schedule, max_steps=steps, warmup_steps=warmup, learning_rate=2.0)
    return [learning_rate_at(step, config) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "inverse_sqrt", "constant"])
def test_the_rate_rises_in_a_straight_line_to_its_peak(schedule: str) -> None:
    rates = _rates(schedule)
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("schedule", "halfway", "last"),
    [
        ("cosine", 1.0, 1 + math.cos(math.pi * 89 / 90)),
        ("linear", 1.0, 2 / 90),
        ("inverse_sqrt", 2 * math.sqrt(10 / 55), 2 * math.sqrt(10 / 99)),
        ("constant", 2.0, 2.0),
    ],
)
def test_the_rate_falls_as_the_schedule_says(schedule: str, halfway: float, last: float) -> None:
    rates = _rates(schedule)
    assert (rates[55], rates[99]) == pytest.approx((halfway, last))


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "inverse_sqrt", "constant"])
def test_after_the_warm_up_the_rates_are_those_of_transformers(schedule: str, warmup: int) -> None:
    transformers = pytest.importorskip("transformers")
    named = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    theirs = transformers.get_scheduler(
        named, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0), num_warmup_steps=warmup, num_training_steps=100
    )
    multiplier = theirs.lr_lambdas[0]
    assert _rates(schedule, warmup=warmup)[warmup:] == pytest.approx([2 * multiplier(i) for i in range(warmup, 100)])


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loop\.schedule: 'cosin' is unknown; choose cosine, linear, inverse_sqrt"):
        loop_config(schedule="cosin")


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta2", 1.0), ("max_grad_norm", -1.0), ("learning_rate", 0.0), ("log_every", 0), ("workers", -1),
     ("learning_rate", float("nan"))],
)  # fmt: skip
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"loop\.{name}: {value}"):
        loop_config(**{name: value})


def test_only_matrices_decay_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model.named_parameters(), loop_config(weight_decay=0.5, beta1=0.8, eps=1e-7))
    decayed, kept = optimizer.param_groups
    assert (decayed["params"], decayed["weight_decay"]) == ([model[0].weight], 0.5)
    assert (len(kept["params"]), kept["weight_decay"]) == (3, 0.0)
    assert (decayed["betas"], decayed["eps"]) == ((0.8, 0.98), 1e-7)


@pytest.mark.parametrize(("bound", "left"), [(1.0, 1.0), (100.0, 50.0), (0.0, 50.0)])
def test_gradients_are_scaled_together_and_only_down(bound: float, left: float) -> None:
    first, second, without = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    first.grad, second.grad = torch.tensor([30.0]), torch.tensor([40.0])
    assert clip_gradients([first, second, without], bound) == pytest.approx(50.0)
    assert math.hypot(float(first.grad), float(second.grad)) == pytest.approx(left, rel=1e-4)
    assert float(second.grad / first.grad) == pytest.approx(4 / 3)
    assert without.grad is None
