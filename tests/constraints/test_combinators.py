"""Constraints made of constraints: packed layers, transposes, trained factors, and their nesting."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from paraform.constraints import (
    Ball,
    Blocks,
    Constraint,
    Flatten,
    LowRank,
    Masked,
    Orthogonal,
    ProjectionWarning,
    Scaled,
    Simplex,
    Skew,
    SpectralNorm,
    Symmetric,
    Transposed,
    UnitNorm,
    WeightNorm,
)
from paraform.model import param_groups
from paraform.parametrize import register_parametrization
from tests.constraints.sets import ENGINES


def train(layer: nn.Module, weight: str, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        getattr(layer, weight).sin().sum().backward()
        optimizer.step()


def assert_orthogonal(matrix: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(matrix.mT @ matrix, torch.eye(matrix.shape[-1]), rtol=0, atol=atol)


@ENGINES
def test_each_gate_of_an_lstm_is_orthogonal_and_the_parameter_stays(engine: object) -> None:
    lstm = nn.LSTM(3, 5)
    weight = lstm.weight_hh_l0
    engine.register_parametrization(lstm, "weight_hh_l0", Blocks(Orthogonal(), 4))
    train(lstm, "weight_hh_l0")
    assert lstm.parametrizations.weight_hh_l0.original is weight
    for gate in lstm.weight_hh_l0.detach().chunk(4):
        assert_orthogonal(gate)
    assert lstm(torch.randn(7, 2, 3))[0].shape == (7, 2, 5)


def test_queries_keys_and_values_are_bounded_one_by_one() -> None:
    attention = nn.MultiheadAttention(4, 2)
    register_parametrization(attention, "in_proj_weight", Blocks(SpectralNorm(0.5), 3))
    attention.in_proj_weight = torch.cat([torch.eye(4) / 4, torch.eye(4) / 8, torch.eye(4) / 2])
    scale = attention.in_proj_weight.detach().reshape(3, 4, 4).diagonal(dim1=1, dim2=2).amax(1)
    torch.testing.assert_close(scale, torch.tensor([0.25, 0.125, 0.5]))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_blocks_are_those_that_chunk_cuts(dim: int) -> None:
    value = torch.randn(4, 6, 2)
    constraint = Blocks(UnitNorm(), 2, dim)
    chunks = torch.cat([chunk / chunk.norm(dim=-1, keepdim=True) for chunk in value.chunk(2, dim)], dim)
    torch.testing.assert_close(constraint.project(value), chunks)


def test_a_block_that_is_in_the_set_stays_to_the_bit_where_another_is_not() -> None:
    constraint = Blocks(Orthogonal(), 2)
    rotation = Orthogonal().sample((3, 3))
    raw = constraint.right_inverse(torch.cat([rotation, 2 * rotation]))
    value = constraint(raw)
    assert torch.equal(value[:3], rotation)
    assert_orthogonal(value[3:])


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: Blocks(Orthogonal(), 4.0), TypeError, "expects n to be an int"),
        (lambda: Blocks(Orthogonal(), 0), ValueError, "at least one block"),
        (lambda: Blocks(nn.Identity(), 2), TypeError, "Blocks expects a constraint"),
        (lambda: Scaled(torch.exp), TypeError, "Scaled expects a constraint"),
        (lambda: Transposed(Symmetric), TypeError, "Transposed expects a constraint"),
        (lambda: Blocks(Orthogonal(), 4).right_inverse(torch.randn(6, 2)), ValueError, "cut into 4 equal blocks"),
        (lambda: Blocks(Orthogonal(), 2, dim=2).right_inverse(torch.randn(6, 2)), ValueError, "whose dimension 2"),
        (lambda: Transposed(Orthogonal()).right_inverse(torch.randn(6)), ValueError, "expects matrices"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(wrong: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        wrong()


@pytest.mark.parametrize(
    "inside_out",
    [
        lambda: Blocks(Flatten(Orthogonal()), 2),
        lambda: Blocks(Scaled(Flatten(Orthogonal())), 2),
        lambda: Blocks(Blocks(UnitNorm(), 2), 2),
        lambda: Blocks(UnitNorm(0), 2),
        lambda: Transposed(Flatten(Simplex())),
    ],
)
def test_pieces_that_would_be_taken_for_parts_of_one_point_are_refused(inside_out: object) -> None:
    layer = nn.Conv2d(2, 4, 3)
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=r"points that span others too, .* as in Flatten\("):
        register_parametrization(layer, "weight", inside_out())
    assert torch.equal(layer.weight, before)


def test_the_groups_of_a_convolution_are_orthogonal_one_by_one() -> None:
    layer = register_parametrization(nn.Conv2d(4, 6, 3, groups=2), "weight", Flatten(Blocks(Orthogonal(), 2)))
    train(layer, "weight")
    for filters in layer.weight.detach().flatten(1).chunk(2):
        assert_orthogonal(filters.T)


def test_a_vector_is_cut_into_blocks_for_a_set_of_vectors_and_for_no_other() -> None:
    value = torch.randn(12)
    chunks = torch.cat([chunk / chunk.norm() for chunk in value.chunk(4)])
    torch.testing.assert_close(Blocks(UnitNorm(), 4).project(value), chunks)
    with pytest.raises(ValueError, match="points that span others too"):
        Blocks(Orthogonal(), 4).right_inverse(value)


@pytest.mark.parametrize(
    ("constraint", "decayed"),
    [
        (Scaled(Orthogonal()), [0]),
        (Scaled(LowRank(2)), [0, 1, 2]),
        (Flatten(Scaled(WeightNorm())), [0, 1]),
        (Blocks(Skew(), 1), [0]),
    ],
    ids=str,
)
def test_weight_decay_is_for_the_factor_and_where_the_inner_set_says_so(
    constraint: Constraint, decayed: list[int]
) -> None:
    layer = register_parametrization(nn.Linear(4, 4, bias=False), "weight", constraint)
    chosen, _ = param_groups(layer, weight_decay=0.1)
    ids = [id(parameter) for parameter in layer.parametrizations.weight.parameters()]
    assert [ids.index(id(parameter)) for parameter in chosen["params"]] == decayed


@pytest.mark.parametrize("wrap", [Transposed, Scaled, lambda inner: Blocks(inner, 1)])
def test_a_convolution_is_still_refused_behind_a_view_that_does_not_flatten(wrap: object) -> None:
    with pytest.raises(ValueError, match="of the kernel of Conv1d one by one"):
        register_parametrization(nn.Conv1d(4, 8, 3), "weight", wrap(Orthogonal()))


@pytest.mark.parametrize("wrap", [Transposed, Scaled, lambda inner: Blocks(inner, 2)])
def test_combinators_nest_within_flatten(wrap: object) -> None:
    layer = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(wrap(Orthogonal())))
    train(layer, "weight")
    constraint = layer.parametrizations.weight[0]
    assert constraint.residual(layer.weight.detach()) < 1e-5
    assert copy.deepcopy(layer)(torch.randn(1, 2, 5, 5)).shape == (1, 4, 3, 3)


def test_the_columns_of_a_transposed_simplex_sum_to_one() -> None:
    layer = register_parametrization(nn.Linear(3, 5), "weight", Transposed(Simplex()))
    train(layer, "weight")
    torch.testing.assert_close(layer.weight.detach().sum(0), torch.ones(3))


def test_a_raw_tensor_that_only_looks_like_the_value_is_left_as_it_is() -> None:
    # The sizes of WeightNorm have the shape (2, 1, 1), and so has the kernel that Blocks sees.
    constraint = Blocks(WeightNorm(), 2)
    value = torch.randn(2, 1)
    torch.testing.assert_close(constraint(*constraint.right_inverse(value)), value)


def test_a_checkpoint_of_torchs_spectral_norm_loads_through_flatten() -> None:
    theirs = nn.utils.spectral_norm(nn.Conv2d(2, 4, 3), n_power_iterations=500)
    theirs(torch.randn(1, 2, 5, 5))
    theirs.eval()
    theirs(torch.randn(1, 2, 5, 5))
    value = theirs.weight.detach().clone()
    ours = register_parametrization(nn.Conv2d(2, 4, 3), "weight", Flatten(SpectralNorm()))
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.weight.detach(), value, rtol=1e-4, atol=1e-5)


def test_a_pruned_checkpoint_loads_through_flatten_with_its_mask() -> None:
    theirs = nn.Conv2d(2, 3, 2)
    mask = (torch.rand(3, 2, 2, 2) > 0.5).float()
    prune.custom_from_mask(theirs, "weight", mask)
    ours = register_parametrization(nn.Conv2d(2, 3, 2), "weight", Flatten(Masked(torch.ones(3, 8))))
    state = theirs.state_dict()
    state["weight_mask"] = state["weight_mask"].flatten(1)
    ours.load_state_dict(state)
    torch.testing.assert_close(ours.weight.detach(), theirs.weight.detach())


def test_a_scaled_orthogonal_starts_at_the_nearest_multiple_of_an_orthogonal_matrix() -> None:
    value = torch.randn(5, 3, dtype=torch.float64)
    U, S, Vh = torch.linalg.svd(value, full_matrices=False)
    nearest = S.mean() * U @ Vh  # least squares over the singular values
    torch.testing.assert_close(Scaled(Orthogonal()).project(value), nearest)


def test_a_complex_factor_is_real() -> None:
    value = torch.randn(3, 3, dtype=torch.complex128)
    S = torch.linalg.svdvals(value)
    constraint = Scaled(Orthogonal())
    s, _ = constraint.right_inverse(value)
    torch.testing.assert_close(s, S.mean())
    torch.testing.assert_close(constraint.distance, torch.linalg.vector_norm(S - S.mean()))


def test_negative_multiples_are_in_the_set_too() -> None:
    value = -3 * torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    constraint = Scaled(Simplex())
    raws = constraint.right_inverse(value)
    assert constraint.distance == 0
    torch.testing.assert_close(raws[0], torch.tensor(-3.0, dtype=torch.float64))
    torch.testing.assert_close(constraint(*raws), value)


def test_the_nearest_multiple_of_a_point_of_the_simplex_is_the_vector_without_its_negative_entries() -> None:
    # The multiples of the simplex by positive numbers are all vectors without negative entries.
    value = torch.tensor([0.9, -0.4, 2.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(Scaled(Simplex()).project(value), value.clamp_min(0), rtol=0, atol=1e-6)


def test_zeros_get_the_factor_zero_and_grow_again() -> None:
    layer = nn.Linear(3, 3)
    nn.init.zeros_(layer.weight)
    register_parametrization(layer, "weight", Scaled(Orthogonal()))
    assert layer.weight.count_nonzero() == 0
    train(layer, "weight", 1)
    assert layer.weight.count_nonzero() > 0


@pytest.mark.parametrize(
    ("inner", "value"), [(SpectralNorm(), 3 * torch.eye(3)), (Ball(1.0), torch.tensor([3.0, 4.0]))]
)
def test_what_is_bounded_gets_the_least_factor_that_reaches_the_value(inner: object, value: Tensor) -> None:
    constraint = Scaled(inner)
    s, *rest = constraint.right_inverse(value)
    assert constraint.distance <= 1e-5
    torch.testing.assert_close(constraint(s, *rest), value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(s, value.norm() if value.ndim == 1 else torch.tensor(3.0), rtol=1e-4, atol=0)


def test_what_is_bounded_and_inside_keeps_the_factor_one() -> None:
    s, raw = Scaled(SpectralNorm()).right_inverse(torch.eye(3) / 2)
    assert s == 1
    assert torch.equal(raw, torch.eye(3) / 2)


def test_a_scaled_constraint_behind_another_parametrization_is_refused_in_words() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    with pytest.raises(RuntimeError, match="Register it before the others"):
        register_parametrization(layer, "weight", Scaled(UnitNorm()))
    assert len(layer.parametrizations.weight) == 1


def test_the_text_of_a_combinator_is_its_constructor() -> None:
    shown = [Blocks(Orthogonal(), 4), Blocks(Scaled(UnitNorm()), 3, dim=-1), Flatten(Transposed(Simplex(strict=True)))]
    assert [str(constraint) for constraint in shown] == [
        "Blocks(Orthogonal(), 4)",
        "Blocks(Scaled(UnitNorm()), 3, dim=-1)",
        "Flatten(Transposed(Simplex(strict=True)))",
    ]


def test_a_strict_constraint_is_strict_behind_a_combinator() -> None:
    for constraint in (Scaled(Orthogonal(strict=True)), Blocks(Orthogonal(strict=True), 2)):
        constraint.right_inverse(torch.eye(2))
        with pytest.raises(ValueError, match="expects a value in its set"):
            constraint.right_inverse(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_an_assigned_value_warns_once_and_names_the_line() -> None:
    layer = register_parametrization(nn.Linear(3, 6), "weight", Blocks(Scaled(Orthogonal()), 2))
    with pytest.warns(ProjectionWarning) as caught:
        layer.weight = torch.randn(6, 3)
    assert [warning.filename for warning in caught] == [__file__]
