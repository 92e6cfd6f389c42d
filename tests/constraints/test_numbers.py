"""What is special about numbers above, below and between bounds."""

import pytest
import torch
from scipy import stats
from torch import nn

from paraform.constraints import GreaterThan, Interval, LessThan, Positive
from paraform.constraints.base import Constraint
from paraform.parametrize import register_parametrization

EPS = torch.finfo(torch.float64).eps


def test_samples_follow_the_law_that_the_class_names() -> None:
    beyond = stats.expon()
    for constraint, cdf in (
        (Positive(), beyond.cdf),
        (GreaterThan(2.0), lambda x: beyond.cdf(x - 2)),
        (LessThan(torch.tensor(-1.0)), lambda x: beyond.sf(-1 - x)),
        (Interval(-1.0, 3.0), lambda x: (x + 1) / 4),
    ):
        draws = constraint.sample((4000,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert stats.kstest(draws.numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("lower", "upper"), [(0.1, 0.3), (-1e4, 1e-3), (1.0, 1.0078125), (-3.0, 7.0), (0.7, 0.9)])
def test_no_raw_number_passes_a_bound(dtype: torch.dtype, lower: float, upper: float) -> None:
    largest = torch.finfo(dtype).max
    raw = torch.cat([torch.linspace(-60, 60, 20001, dtype=dtype), torch.tensor([-largest, largest], dtype=dtype)])
    low, high = torch.tensor(lower, dtype=dtype), torch.tensor(upper, dtype=dtype)
    for bounds in ((lower, upper), (low, high)):
        value = Interval(*bounds)(raw)
        assert torch.all((value >= low) & (value <= high))
        assert torch.all(GreaterThan(bounds[0])(raw) >= low)
        assert torch.all(LessThan(bounds[1])(raw) <= high)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_very_near_to_a_bound_come_back_as_they_are(dtype: torch.dtype) -> None:
    gaps = torch.logspace(-30, -1, 200, dtype=dtype)
    positive, unit = Positive(), Interval(0.0, 2.0)
    rtol = 100 * torch.finfo(dtype).eps  # a raw number of -70 is rounded to 35 eps, which is relative to the gap
    torch.testing.assert_close(positive(positive.right_inverse(gaps)), gaps, rtol=rtol, atol=0)
    torch.testing.assert_close(unit(unit.right_inverse(gaps)), gaps, rtol=rtol, atol=0)
    for constraint, value in ((LessThan(2.0), 2 - gaps), (Interval(0.0, 2.0), 2 - gaps)):
        back = constraint(constraint.right_inverse(value))
        assert torch.all((back - value).abs() <= 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("constraint", "value", "nearest"),
    [
        (Positive(), [-3.0, 0.0, 1e-200, 2.0], [EPS, EPS, 1e-200, 2.0]),
        (GreaterThan(1000.0), [-3.0, 1000.0, 1000.5, 2e3], [1000.0, 1000.0, 1000.5, 2e3]),
        (LessThan(0.0), [3.0, 0.0, -1e-200, -2.0], [-EPS, -EPS, -1e-200, -2.0]),
        (Interval(0.0, 4.0), [-3.0, 0.0, 4.0, 5.0], [4 * EPS, 4 * EPS, 4.0, 4.0]),
    ],
    ids=str,
)
def test_an_entry_on_a_bound_or_beyond_goes_eps_inside(constraint: Constraint, value: list, nearest: list) -> None:
    raw = constraint.right_inverse(torch.tensor(value, dtype=torch.float64))
    assert raw.isfinite().all()
    torch.testing.assert_close(constraint(raw), torch.tensor(nearest, dtype=torch.float64), rtol=1e-13, atol=0)
    torch.testing.assert_close(constraint.distance, (constraint(raw) - torch.tensor(value)).norm(), rtol=1e-6, atol=0)


def test_the_derivative_near_a_bound_is_the_distance_to_it() -> None:
    for constraint, value in ((Positive(), 1e-6), (LessThan(1.0), 1 - 1e-6), (Interval(-1.0, 1.0), 1 - 1e-6)):
        raw = constraint.right_inverse(torch.tensor(value, dtype=torch.float64)).requires_grad_()
        (slope,) = torch.autograd.grad(constraint(raw), raw)
        torch.testing.assert_close(float(slope), 1e-6, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "make", [Positive, lambda: Interval(torch.zeros(3), torch.ones(1))], ids=["Positive", "Interval"]
)
def test_entries_that_started_on_the_edge_train(make: object) -> None:
    layer = register_parametrization(nn.Linear(3, 2), "weight", make())
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.5, weight_decay=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (layer.weight - 0.5).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, torch.full((2, 3), 0.5), rtol=0, atol=0.05)


def test_bounds_take_the_dtype_of_the_first_value_and_follow_the_module() -> None:
    layer = nn.Linear(3, 2).double()
    register_parametrization(layer, "weight", Interval(torch.tensor([0, 0, 1]), torch.tensor([2.0, 3.0, 4.0])))
    bounds = layer.parametrizations.weight[0]
    assert (bounds.lower.dtype, bounds.upper.dtype) == (torch.float64, torch.float64)
    assert "parametrizations.weight.0.lower" in layer.state_dict()
    assert layer.bfloat16().weight.dtype == bounds.upper.dtype == torch.bfloat16
    assert (
        "parametrizations.weight.0.lower"
        not in register_parametrization(nn.Linear(3, 2), "weight", Positive()).state_dict()
    )


@pytest.mark.parametrize(
    ("error", "words", "mistake"),
    [
        (TypeError, "lower to be a number or a tensor, got '1'", lambda: GreaterThan("1")),
        (ValueError, "upper to be finite, got inf", lambda: LessThan(torch.inf)),
        (ValueError, "lower to be finite, got tensor", lambda: GreaterThan(torch.tensor([0.0, torch.nan]))),
        (ValueError, "lower to be real", lambda: GreaterThan(torch.tensor(1j))),
        (ValueError, "lower below upper everywhere", lambda: Interval(1.0, 1.0)),
        (ValueError, "lower below upper everywhere", lambda: Interval(0.5, torch.tensor([1.0, 0.0]))),
        (ValueError, "expects real numbers", lambda: Positive().right_inverse(torch.tensor(1j))),
        (ValueError, r"lower, of shape \(2,\)", lambda: GreaterThan(torch.zeros(2)).right_inverse(torch.ones(3))),
    ],
)
def test_a_mistake_is_named_in_words(error: type[Exception], words: str, mistake: object) -> None:
    with pytest.raises(error, match=words):
        mistake()


def test_the_text_is_the_constructor() -> None:
    shown = [
        Positive(strict=True),
        GreaterThan(0.0),
        LessThan(torch.zeros(2)),
        Interval(0.0, torch.ones(1), strict=True),
    ]
    assert [str(constraint) for constraint in shown] == [
        "Positive(strict=True)",
        "GreaterThan(lower=0.0)",
        "LessThan(upper=tensor of shape (2,))",
        "Interval(lower=0.0, upper=tensor of shape (1,), strict=True)",
    ]
