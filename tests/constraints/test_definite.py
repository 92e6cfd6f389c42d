"""What is special about definite, semidefinite and correlation matrices."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor, nn

from paraform import maps
from paraform.constraints import Constraint, ConstraintError, Correlation, PositiveDefinite, PositiveSemidefinite
from paraform.parametrize import register_parametrization


def layer_with(value: Tensor, constraint: Constraint) -> nn.Module:
    layer = nn.Linear(*value.shape, bias=False, dtype=value.dtype)
    layer.weight.data.copy_(value)
    return register_parametrization(layer, "weight", constraint)


def symmetric(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(n, n, dtype=dtype)
    return (x + x.mH) / 2


def trained(layer: nn.Module, target: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).abs().square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


# The exponential


@pytest.mark.parametrize("size", [0.0, 0.02, 0.3, 0.5, 0.57, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_exponential_has_the_digits_of_its_dtype_where_that_of_torch_has_not(
    size: float, dtype: torch.dtype, sign: int
) -> None:
    x = (sign * torch.diag(torch.tensor([0.1, 1.0])) * size).to(dtype)
    expected = torch.from_numpy(scipy.linalg.expm(x.double().numpy()))
    error = torch.dist(maps.matrix_exp(x).double(), expected) / torch.linalg.matrix_norm(expected)
    assert error < 32 * torch.finfo(dtype).eps


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 3.0])
def test_the_value_is_the_exponential_of_the_lower_triangle(scale: float) -> None:
    S = scale * symmetric(5)
    value = PositiveDefinite("matrix_exp")(S.tril())
    np.testing.assert_allclose(value, scipy.linalg.expm(S.numpy()), rtol=1e-10, atol=1e-12 * float(value.trace()))
    # A small eigenvalue is known to eps of the largest one, and so is its logarithm.
    condition = float(torch.linalg.cond(value))
    np.testing.assert_allclose(maps.logarithm(value), S, rtol=0, atol=1e-13 * max(condition, 10))


@pytest.mark.parametrize("map", ["cholesky", "matrix_exp"])
@pytest.mark.parametrize("size", [0.01, 1.0, 10.0, 35.0])
@pytest.mark.parametrize("n", [2, 30])
def test_whatever_the_raw_tensor_is_the_value_has_a_cholesky_factor(map: str, size: float, n: int) -> None:
    S = symmetric(n, torch.float32)
    raw = size * S / torch.linalg.matrix_norm(S, ord=2)
    torch.linalg.cholesky(PositiveDefinite(map)(raw))
    torch.linalg.cholesky(PositiveDefinite(map)(raw + size * torch.eye(n)))


def test_weight_decay_of_the_logarithm_draws_to_the_identity() -> None:
    layer = layer_with(torch.diag(torch.tensor([9.0, 0.1])), PositiveDefinite("matrix_exp"))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=1.0)
    for _ in range(100):
        (0 * layer.weight.sum()).backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, torch.eye(2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [1e-37, 1.0, 1e37])
def test_multiples_of_the_identity_of_every_size_are_kept_by_their_logarithm(size: float) -> None:
    constraint = PositiveDefinite("matrix_exp", strict=True)
    value = constraint(constraint.right_inverse(size * torch.eye(3)))
    torch.testing.assert_close(value, size * torch.eye(3), rtol=1e-4, atol=0)


# Semidefinite matrices


@pytest.mark.parametrize(("rank", "exact"), [(None, False), (1, False), (2, False), (2, True), (9, False)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_nearest_point_has_the_largest_positive_eigenvalues(
    rank: int | None, exact: bool, dtype: torch.dtype
) -> None:
    constraint = PositiveSemidefinite(rank, exact)
    H = symmetric(5, dtype) + 0.5 * torch.eye(5)
    K = torch.randn(5, 5, dtype=dtype)
    K = (K - K.mH) / 2
    eigenvalues, Q = np.linalg.eigh(H.numpy())
    kept = np.where(np.arange(5) >= 5 - (rank or 5), np.maximum(eigenvalues, 0), 0)
    np.testing.assert_allclose(constraint.project(H + K), (Q * kept) @ Q.conj().T, atol=1e-12)
    distance = math.hypot(np.linalg.norm(eigenvalues - kept), float(torch.linalg.matrix_norm(K)))
    assert float(constraint.residual(H + K)) == pytest.approx(distance, abs=1e-12)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ones", [0, 1])
def test_zeros_and_matrices_of_smaller_rank_are_kept_and_can_grow(
    rank: int | None, dtype: torch.dtype, ones: int
) -> None:
    start = torch.diag(torch.tensor([1.0] * ones + [0.0] * (4 - ones), dtype=dtype))
    layer = layer_with(start, PositiveSemidefinite(rank))
    torch.testing.assert_close(layer.weight, start, rtol=0, atol=4 * torch.finfo(dtype).eps)
    F = torch.tensor([[2.0, 1.0, 0.0, 1.0], [0.0, 1.0, 2.0, -1.0]], dtype=dtype)
    target = F.T @ F
    for optimizer in (torch.optim.Adam, torch.optim.SGD):
        layer = layer_with(start, PositiveSemidefinite(rank))
        value = trained(layer, target, optimizer(layer.parameters(), lr=0.02), 1500)
        torch.testing.assert_close(value, target, rtol=0, atol=2e-2)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_a_rank_that_is_missing_can_grow_in_every_direction(size: float) -> None:
    start = torch.zeros(4, 4)
    start[0, 0] = size
    for i in range(4):
        layer = layer_with(start, PositiveSemidefinite(2))
        layer.weight[i, i].backward()
        assert layer.parametrizations.weight.original.grad[i, 0] != 0


RAWS = {
    "zeros": torch.zeros(5, 2),
    "a column of zeros": torch.tensor([[1.0, 0.0]] * 5),
    "parallel columns": torch.tensor([[1.0, -3.0]] * 5),
    "nearly parallel columns": torch.tensor([[1.0, 1.0]] * 4 + [[1.0, 1.000001]]),
    "tiny": torch.full((5, 2), 1e-30),
    "huge": torch.full((5, 2), 1e15),
}


@pytest.mark.parametrize("raw", RAWS.values(), ids=RAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rank_is_exact_whatever_the_raw_tensor_is(raw: Tensor, dtype: torch.dtype) -> None:
    raw = raw.to(dtype).requires_grad_()
    value = PositiveSemidefinite(2, exact=True)(raw)
    eigenvalues = torch.linalg.eigvalsh(value.detach().double())
    eps, top = torch.finfo(dtype).eps, float(eigenvalues[-1])
    assert eigenvalues[-2] > max(2 * eps * top, 0.9 * torch.finfo(dtype).smallest_normal)
    assert eigenvalues[:-2].abs().max() < 2 * eps * top
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    assert torch.isfinite(gradient).all()


def test_a_trained_value_at_the_floor_of_its_rank_is_taken_back_without_a_warning() -> None:
    constraint = PositiveSemidefinite(2, exact=True, strict=True)
    constraint.right_inverse(constraint.sample((5, 5)))
    for name in ("a column of zeros", "parallel columns"):
        value = constraint(RAWS[name])
        torch.testing.assert_close(constraint(constraint.right_inverse(value)), value)


def test_a_smaller_rank_is_outside_where_the_rank_is_exact_and_inside_where_it_is_not() -> None:
    one = torch.ones(3, 3)
    for exact in (False, True):
        constraint = PositiveSemidefinite(2, exact, strict=True)
        constraint.right_inverse(torch.diag(torch.tensor([1.0, 1.0, 0.0])))
        if exact:
            with pytest.raises(ConstraintError):
                constraint.right_inverse(one)
        else:
            constraint.right_inverse(one)


def test_few_columns_are_trained_and_the_parameter_is_the_same_object() -> None:
    layer = nn.Linear(20, 20, bias=False)
    weight = layer.weight
    register_parametrization(layer, "weight", PositiveSemidefinite(3))
    assert layer.parametrizations.weight.original is weight
    assert weight.shape == (20, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"rank": 0}, ValueError, "a rank of 1 at least, got 0"),
        ({"rank": 1.5}, TypeError, "a rank as an int, got 1.5"),
        ({"rank": True}, TypeError, "a rank as an int, got True"),
        ({"exact": True}, ValueError, "expects a rank, got None"),
    ],
)
def test_ranks_that_are_none_are_refused(arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        PositiveSemidefinite(**arguments)


def test_an_unknown_map_and_too_small_a_matrix_are_refused() -> None:
    with pytest.raises(ValueError, match="a map out of cholesky, matrix_exp, got 'expm'"):
        PositiveDefinite("expm")
    with pytest.raises(ValueError, match="3 rows and columns at least, got shape"):
        PositiveSemidefinite(3, exact=True).right_inverse(torch.eye(2))


@pytest.mark.parametrize("rank", [None, 2])
def test_samples_of_semidefinite_matrices_are_wishart(rank: int | None) -> None:
    samples = PositiveSemidefinite(rank).sample((2000, 3, 3), generator=torch.Generator().manual_seed(0))
    freedom = rank or 3
    traces = freedom * samples.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert scipy.stats.kstest(traces, scipy.stats.chi2(3 * freedom).cdf).pvalue > 1e-3


# Correlations


def by_alternating_projections(A: Tensor, steps: int = 3000) -> Tensor:
    """N. Higham, Computing the nearest correlation matrix, 2002, Algorithm 3.3."""
    correction, Y = torch.zeros_like(A), A
    for _ in range(steps):
        R = Y - correction
        eigenvalues, Q = torch.linalg.eigh(R)
        X = (Q * eigenvalues.clamp_min(0)) @ Q.mH
        correction, Y = X - R, X - torch.diag_embed(torch.diagonal(X)) + torch.eye(len(X))
    return Y


@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_nearest_correlation_is_that_of_alternating_projections(size: float, dtype: torch.dtype, n: int) -> None:
    A = size * torch.randn(n, n, dtype=dtype)
    expected = by_alternating_projections((A + A.mH) / 2)
    torch.testing.assert_close(Correlation().project(A), expected, rtol=0, atol=1e-9)


def test_the_nearest_correlation_of_highams_example() -> None:
    value = Correlation().project(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]).double())
    assert [round(float(value[i, j]), 4) for i, j in ((0, 1), (0, 2), (1, 2))] == [0.7607, 0.1573, 0.7607]


@pytest.mark.parametrize("n", [5, 60])
@pytest.mark.parametrize("size", [30.0, 1e3, 1e5])
def test_the_nearest_correlation_of_large_entries_is_optimal(n: int, size: float) -> None:
    # It is (A + diag(y))_+, so what was taken off, X - A - diag(y), is semidefinite and has the inner product 0 with X.
    A = size * symmetric(n)
    X = Correlation().project(A)
    slack = X - A
    y = (slack @ X).diagonal()  # of (X - A - diag(y)) X = 0
    slack = slack - torch.diag(y)
    assert torch.linalg.eigvalsh(slack)[0] > -1e-5 * size * n
    assert abs(float((slack * X).sum())) < 1e-5 * size * n


@pytest.mark.parametrize("size", [1e7, 1e30])
def test_entries_too_large_for_a_nearest_point_give_a_correlation_matrix_all_the_same(size: float) -> None:
    for x in (torch.randn(4, 4), torch.ones(4, 4), -torch.eye(4)):
        value = Correlation().project(size * x)
        assert float(Correlation().residual(value)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bfloat16])
def test_the_diagonal_is_one_to_the_bit_also_for_rows_of_zeros(dtype: torch.dtype) -> None:
    raw = torch.randn(6, 6, dtype=dtype)
    raw[2] = 0
    value = Correlation()(raw)
    assert torch.equal(value.diagonal(), torch.ones(6, dtype=dtype))
    assert value[2].count_nonzero() == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("rank", [1, 2])
def test_singular_correlations_come_back(rank: int, dtype: torch.dtype) -> None:
    constraint = Correlation(strict=True)
    value = maps.correlations(torch.randn(5, rank, dtype=dtype))
    constraint.right_inverse(torch.eye(5, dtype=dtype))
    raw = constraint.right_inverse(value)
    torch.testing.assert_close(constraint(raw), value, rtol=0, atol=1e-10)
    assert torch.equal(raw, raw.tril())
    assert (raw.diagonal().real >= 0).all()


def test_the_raw_tensor_is_the_cholesky_factor() -> None:
    value = Correlation().sample((6, 6), dtype=torch.float64)
    torch.testing.assert_close(Correlation().right_inverse(value), torch.linalg.cholesky(value))


def test_training_leaves_the_matrix_of_ones_and_ends_at_the_nearest_correlation() -> None:
    target = torch.tensor([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    layer = layer_with(torch.ones(3, 3), Correlation())
    value = trained(layer, target, torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0.1), 1000)
    torch.testing.assert_close(value, Correlation().project(target), rtol=0, atol=1e-2)


def test_decay_changes_no_correlation() -> None:
    value = Correlation().sample((4, 4), dtype=torch.float64)
    constraint = Correlation()
    raw = constraint.right_inverse(value)
    torch.testing.assert_close(constraint(1e-30 * raw), value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_samples_of_correlations_are_uniform(dtype: torch.dtype) -> None:
    generator, count = torch.Generator().manual_seed(1), 4000
    samples = Correlation().sample((count, 3, 3), generator=generator, dtype=dtype)
    # Uniform in the cube (or the discs) of all entries, and what is no correlation matrix rejected.
    entries = 2 * torch.rand(8 * count, 3, generator=generator, dtype=torch.float64) - 1
    if dtype.is_complex:
        entries = entries + 1j * (2 * torch.rand(8 * count, 3, generator=generator, dtype=torch.float64) - 1)
    candidates = torch.eye(3, dtype=dtype).repeat(len(entries), 1, 1)
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        candidates[:, i, j], candidates[:, j, i] = entries[:, k], entries[:, k].conj()
    uniform = candidates[torch.linalg.eigvalsh(candidates)[:, 0] > 0]
    assert len(uniform) > count / 2
    for statistic in (lambda x: torch.linalg.det(x).real, lambda x: x[:, 0, 1].real, lambda x: x[:, 1, 2].real):
        assert scipy.stats.ks_2samp(statistic(samples), statistic(uniform)).pvalue > 1e-3
    if not dtype.is_complex:
        marginal = scipy.stats.beta(1.5, 1.5, loc=-1, scale=2)
        assert scipy.stats.kstest(samples[:, 0, 2], marginal.cdf).pvalue > 1e-3
