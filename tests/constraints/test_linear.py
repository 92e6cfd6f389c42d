"""Linear sets against their definitions: patterns, constant diagonals, traces, forms, and masks."""

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from paraform.constraints import (
    Banded,
    BlockDiagonal,
    Circulant,
    Constraint,
    Hamiltonian,
    Masked,
    ProjectionWarning,
    Toeplitz,
    Traceless,
    Triangular,
)
from paraform.parametrize import register_parametrization
from tests.constraints.sets import ENGINES

J = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]], dtype=torch.float64)


def trained(constraint: Constraint, shape: tuple[int, ...], steps: int = 5) -> Tensor:
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    register_parametrization(layer, "weight", constraint)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    target = torch.randn(shape, dtype=torch.float64)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


def test_a_trained_value_has_the_pattern_that_scipy_and_torch_give_it() -> None:
    c = trained(Circulant(), (5, 5))
    torch.testing.assert_close(c, torch.from_numpy(scipy.linalg.circulant(c[:, 0].numpy())))
    t = trained(Toeplitz(), (3, 5))
    torch.testing.assert_close(t, torch.from_numpy(scipy.linalg.toeplitz(t[:, 0].numpy(), t[0].numpy())))
    b = trained(BlockDiagonal([(1, 2), 2, (2, 0)]), (5, 4))
    torch.testing.assert_close(b, torch.block_diag(b[:1, :2], b[1:3, 2:], torch.zeros(2, 0, dtype=torch.float64)))
    banded = trained(Banded(1, 2), (5, 6))
    i, j = torch.arange(5).unsqueeze(1), torch.arange(6)
    assert torch.equal(banded != 0, (i - j <= 1) & (j - i <= 2))


@pytest.mark.parametrize("lower", [True, False])
def test_a_triangle_keeps_its_side_and_its_diagonal(lower: bool) -> None:
    for diagonal in ("free", "unit", "positive"):
        value = trained(Triangular(lower, diagonal), (4, 3), steps=30)
        assert torch.equal(value, value.tril() if lower else value.triu())
        if diagonal == "unit":
            assert (value.diagonal() == 1).all()
        if diagonal == "positive":
            assert (value.diagonal() > 0).all()


def test_a_trained_hamiltonian_matrix_has_a_symplectic_exponential() -> None:
    M = torch.matrix_exp(trained(Hamiltonian(), (4, 4)))
    torch.testing.assert_close(M.T @ J @ M, J)


def test_a_complex_hamiltonian_matrix_has_a_form_that_is_hermitian() -> None:
    X = Hamiltonian().sample((4, 4), dtype=torch.complex128)
    JX = J.to(X.dtype) @ X
    torch.testing.assert_close(JX, JX.mH)


def test_a_trained_traceless_matrix_has_no_trace_and_the_rest_is_free() -> None:
    value = trained(Traceless(), (3, 3))
    torch.testing.assert_close(value.trace(), torch.zeros((), dtype=torch.float64))
    assert value.count_nonzero() == 9


LINEAR = [Circulant(), Toeplitz(), Traceless(), Hamiltonian(), Banded(1, 0), BlockDiagonal(2), Triangular()]


@pytest.mark.parametrize("constraint", LINEAR, ids=str)
def test_the_projection_is_orthogonal_and_linear(constraint: Constraint) -> None:
    x, y, z = torch.randn(3, 4, 4, dtype=torch.float64)
    project = constraint.project
    torch.testing.assert_close(project(x + 2 * y), project(x) + 2 * project(y))
    # What is left of x is normal to every point of the set.
    torch.testing.assert_close(((x - project(x)) * project(z)).sum(), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("constraint", [Circulant(), Toeplitz()], ids=str)
@ENGINES
def test_a_generating_vector_is_the_same_parameter_for_an_optimizer_that_was_there_before(
    engine: object, constraint: Constraint
) -> None:
    layer = nn.Linear(4, 4)
    weight, optimizer = layer.weight, torch.optim.SGD(layer.parameters(), lr=0.1)
    engine.register_parametrization(layer, "weight", type(constraint)())
    before = layer.weight.detach().clone()
    assert layer.parametrizations.weight.original is weight
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)


def test_entries_outside_of_a_pattern_are_no_rounding_error() -> None:
    for constraint in (Triangular(strict=True), Banded(1, 0, strict=True), BlockDiagonal(2, strict=True)):
        constraint.right_inverse(torch.eye(4))
        value = 1e6 * torch.eye(4)
        value[0, 3] = 1e-30
        with pytest.raises(ValueError, match="expects a value in its set"):
            constraint.right_inverse(value)


@pytest.mark.parametrize("constraint", [Triangular(), Banded(1, 1), BlockDiagonal(2)], ids=str)
def test_nothing_leaks_from_outside_of_a_pattern(constraint: Constraint) -> None:
    raw = torch.where(constraint.project(torch.ones(4, 4)) == 1, 1.0, torch.inf).requires_grad_()
    value = constraint(raw)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.equal(raw.grad, constraint.project(torch.ones(4, 4)))


def test_a_diagonal_that_is_not_positive_moves_by_that_much_and_trains() -> None:
    constraint = Triangular(diagonal="positive")
    raw = constraint.right_inverse(torch.diag(torch.tensor([2.0, -3.0])))
    torch.testing.assert_close(constraint.distance, torch.tensor(3.0))
    value = constraint(raw)
    assert value[1, 1] > 0
    torch.testing.assert_close(value[0, 0], torch.tensor(2.0))


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: Triangular(diagonal="ones"), ValueError, "out of free, unit, positive"),
        (lambda: Banded(1.0, 0), TypeError, "expects lower to be an int"),
        (lambda: Banded(1, -1), ValueError, "expects upper to be at least 0"),
        (lambda: BlockDiagonal(0), ValueError, "at least one block"),
        (lambda: BlockDiagonal([]), ValueError, "at least one block"),
        (lambda: BlockDiagonal("ab"), TypeError, "a number of blocks"),
        (lambda: BlockDiagonal([1, (2, 3, 4)]), TypeError, "a pair of ints"),
        (lambda: BlockDiagonal([(1, -1)]), ValueError, "at least 0"),
        (lambda: BlockDiagonal(2).right_inverse(torch.ones(3, 4)), ValueError, "that its blocks fill"),
        (lambda: BlockDiagonal([1, 2]).right_inverse(torch.ones(4, 4)), ValueError, r"they fill \(3, 3\)"),
        (lambda: Hamiltonian().right_inverse(torch.ones(3, 3)), ValueError, "even number of rows"),
        (lambda: Toeplitz()(torch.ones(5)), RuntimeError, "does not know its shape yet"),
        (lambda: Masked.by_magnitude(torch.ones(4), 1.5), ValueError, "from 0 to 1"),
        (lambda: Masked.by_magnitude(torch.ones(4), 5), ValueError, "from 0 to 4"),
        (lambda: Masked.by_magnitude(torch.ones(4), "half"), TypeError, "a fraction or a number"),
        (lambda: Masked.n_of_m(torch.ones(4), 3, 2), ValueError, "n of m with 0 <= n <= m"),
        (lambda: Masked.n_of_m(torch.ones(6), 2, 4), ValueError, "a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(wrong: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        wrong()


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0, 0, 5])
def test_by_magnitude_prunes_what_torch_prunes(amount: float) -> None:
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    prune.l1_unstructured(theirs, "weight", amount)
    register_parametrization(ours, "weight", Masked.by_magnitude(ours.weight, amount))
    assert torch.equal(ours.weight, theirs.weight)


def test_of_equal_magnitudes_the_first_are_left_out() -> None:
    assert Masked.by_magnitude(torch.tensor([1.0, -1.0, 1.0, 2.0]), 2).mask.tolist() == [False, False, True, True]


def test_n_of_m_keeps_the_largest_of_each_group() -> None:
    weight = torch.randn(6, 16)
    mask = Masked.n_of_m(weight, 2, 4).mask.reshape(-1, 4)
    for group, kept in zip(weight.reshape(-1, 4), mask, strict=True):
        assert kept.sum() == 2
        assert group[kept].abs().min() >= group[~kept].abs().max()


def test_a_value_with_other_diagonals_moves_to_their_means_with_a_warning() -> None:
    layer = register_parametrization(nn.Linear(2, 2), "weight", Toeplitz())
    with pytest.warns(ProjectionWarning):
        layer.weight = torch.tensor([[1.0, 5.0], [7.0, 3.0]])
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[2.0, 5.0], [7.0, 2.0]]))


@pytest.mark.parametrize("lower", [True, False])
def test_a_free_diagonal_is_sampled_from_the_same_law_as_the_rest(lower: bool) -> None:
    diagonal = Triangular(lower).sample((400, 4, 4), dtype=torch.complex128).diagonal(dim1=-2, dim2=-1)
    assert diagonal.real.mean().abs() < 0.15
    assert diagonal.imag.var() > 0.3


def test_upper_is_not_taken_for_lower() -> None:
    with pytest.raises(TypeError, match="False is upper"):
        Triangular("upper")
    with pytest.raises(TypeError, match="expects n to be an int"):
        Masked.n_of_m(torch.randn(4), 2.0, 4)


@pytest.mark.parametrize("n", [3, 7, 40])
@pytest.mark.parametrize("make", [Circulant, Toeplitz])
def test_what_has_constant_diagonals_is_read_to_the_bit(make: type[Constraint], n: int) -> None:
    value = torch.from_numpy(scipy.linalg.circulant(torch.randn(n).numpy()))
    constraint = make()
    assert torch.equal(constraint(constraint.right_inverse(value)), value)
    assert constraint.distance == 0


def test_what_a_large_diagonal_hides_of_a_small_one_is_told_as_distance() -> None:
    constraint, value = Toeplitz(), 1e6 * torch.eye(3)
    value[0, 1], value[1, 2] = 0.5, -0.5
    moved = constraint(constraint.right_inverse(value))
    assert constraint.distance > 0.5
    torch.testing.assert_close(constraint.distance, torch.linalg.vector_norm(moved - value))


def test_layers_that_torch_has_too_give_the_same() -> None:
    x, kernel = torch.randn(12), torch.randn(3)
    sliding = register_parametrization(nn.Linear(12, 10, bias=False), "weight", Toeplitz())
    sliding.weight = sum(kernel[k] * torch.ones(10, 12).triu(k).tril(k) for k in range(3))
    torch.testing.assert_close(sliding(x), nn.functional.conv1d(x[None, None], kernel[None, None])[0, 0])
    cyclic = register_parametrization(nn.Linear(12, 12, bias=False), "weight", Circulant())
    c = cyclic.parametrizations.weight.original
    around = nn.functional.pad(x[None, None], (11, 0), "circular")
    torch.testing.assert_close(cyclic(x), nn.functional.conv1d(around, c.flip(0)[None, None])[0, 0])
    grouped = register_parametrization(nn.Linear(12, 6, bias=False), "weight", BlockDiagonal(3))
    blocks = torch.cat([grouped.weight[2 * g : 2 * g + 2, 4 * g : 4 * g + 4] for g in range(3)])
    torch.testing.assert_close(grouped(x), nn.functional.conv1d(x[:, None], blocks[..., None], groups=3)[:, 0])


@pytest.mark.parametrize("constraint", [Circulant(), Toeplitz()], ids=str)
def test_a_generating_vector_behind_another_parametrization_is_refused_in_words(constraint: Constraint) -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", Traceless())
    with pytest.raises(RuntimeError, match="Register it first of all parametrizations"):
        register_parametrization(layer, "weight", constraint)
