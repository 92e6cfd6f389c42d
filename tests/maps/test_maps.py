"""The other maps, against scipy, definitions and laws of probability."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from paraform import maps

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])


@DTYPES
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)], ids=str)
def test_polar_is_the_factor_of_scipy(shape: tuple, dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype)
    expected, _ = scipy.linalg.polar(x.numpy())
    np.testing.assert_allclose(maps.polar(x), expected, atol=1e-12)


def test_polar_in_float32_is_as_orthogonal_as_a_qr_factor() -> None:
    x = torch.randn(200, 200)
    assert maps.orthogonality_error(maps.polar(x)) < maps.orthogonality_error(torch.linalg.qr(x).Q)


@DTYPES
def test_symmetric_and_skew_read_the_upper_triangle(dtype: torch.dtype) -> None:
    raw = torch.randn(4, 4, dtype=dtype)
    S, K = maps.symmetric(raw), maps.skew(raw)
    assert torch.equal(S, S.mH)
    assert torch.equal(K, -K.mH)
    for x in (S, K):
        assert torch.equal(x.triu(1), raw.triu(1))
    assert torch.equal(S.diagonal() + K.diagonal(), raw.diagonal())


def test_a_symmetric_matrix_of_the_smallest_numbers_keeps_its_last_bits() -> None:
    smallest = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
    S = smallest * maps.symmetric(torch.randint(-9, 9, (5, 5)).double())
    K = smallest * maps.skew(torch.randint(-9, 9, (5, 5)).double())
    assert torch.equal(maps.symmetric(S.half()), S.half())
    assert torch.equal(maps.skew(K.half()), K.half())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_and_its_inverse_are_accurate_over_the_whole_range(dtype: torch.dtype) -> None:
    y = torch.logspace(-30, 30, 200, dtype=dtype)
    torch.testing.assert_close(maps.softplus(maps.inverse_softplus(y)), y, rtol=1e3 * torch.finfo(dtype).eps, atol=0)
    x = torch.linspace(-80, 80, 200, dtype=dtype)
    expected = np.logaddexp(x.double().numpy(), 0)
    np.testing.assert_allclose(maps.softplus(x), expected, rtol=8 * torch.finfo(dtype).eps)


@DTYPES
def test_positive_definite_is_its_cholesky_factor_times_its_adjoint(dtype: torch.dtype) -> None:
    raw = torch.randn(4, 4, dtype=dtype)
    P = maps.positive_definite(raw)
    L = scipy.linalg.cholesky(P.numpy(), lower=True)
    np.testing.assert_allclose(np.tril(L, -1), raw.tril(-1), atol=1e-12)
    np.testing.assert_allclose(np.diag(L), np.logaddexp(raw.real.diagonal().numpy(), 0), atol=1e-12)


@DTYPES
def test_the_raw_matrix_of_a_positive_definite_one_is_hermitian_and_gives_it_back(dtype: torch.dtype) -> None:
    X = torch.randn(5, 5, dtype=dtype)
    P = X @ X.mH
    raw = maps.cholesky_raw(P)
    assert torch.equal(raw, raw.mH)
    torch.testing.assert_close(maps.positive_definite(raw), P)


@pytest.mark.parametrize("n", [4, 64])
@pytest.mark.parametrize("diagonal", [0.0, -10.0, -40.0])
def test_positive_definite_has_a_cholesky_factor_however_small_its_diagonal(n: int, diagonal: float) -> None:
    eye = torch.eye(n)
    for raw in (torch.randn(n, n), torch.randn(n, 1) @ torch.randn(1, n), torch.logspace(2, -6, n) * torch.randn(n, n)):
        P = maps.positive_definite(raw + diagonal * eye)
        smallest = scipy.linalg.eigvalsh(P.double().numpy())[0]
        # 4 eps of the trace, of which rounding has taken some; over many seeds and kinds of matrices at most 0.2 eps
        assert smallest > 3 * torch.finfo(torch.float32).eps * P.trace()
        torch.linalg.cholesky(P)


@DTYPES
def test_the_distance_to_the_semidefinite_matrices_is_that_of_the_projection(dtype: torch.dtype) -> None:
    x = torch.randn(5, 5, dtype=dtype)
    nearest = maps.clamp_spectrum(x)
    torch.testing.assert_close(maps.indefiniteness(x), torch.linalg.matrix_norm(x - nearest))


@DTYPES
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5), (140, 150)], ids=str)
def test_what_is_outside_is_scaled_by_its_largest_singular_value(shape: tuple, dtype: torch.dtype) -> None:
    W = torch.randn(shape, dtype=dtype)
    sigma = torch.linalg.matrix_norm(W, ord=2)[..., None, None]
    torch.testing.assert_close(maps.scaled_to_bound(W, 0.5, 0.0, True), 0.5 * W / sigma)
    assert torch.equal(maps.scaled_to_bound(W, float(sigma.max()), 1e-9), W)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_are_those_of_torch_and_finite_where_torch_overflows(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4, 5, dtype=dtype)
    torch.testing.assert_close(maps.frobenius(x), torch.linalg.matrix_norm(x))
    huge = torch.finfo(dtype).max / 100
    torch.testing.assert_close(maps.frobenius(huge * torch.eye(4, dtype=dtype)), torch.tensor(2 * huge, dtype=dtype))


def test_unit_has_derivatives_of_every_order_at_zero_and_elsewhere() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: maps.unit(x, (-1,)), x)
    assert torch.autograd.gradgradcheck(lambda x: maps.unit(x, (-1,)), x)
    zero = torch.zeros(2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(maps.unit(zero, (-1,)).sum(), zero, create_graph=True)
    assert torch.isfinite(first).all()


@DTYPES
def test_haar_matrices_have_the_moments_of_the_uniform_law(dtype: torch.dtype) -> None:
    n, draws = 3, 4000
    Q = maps.haar((draws, n, n), dtype=dtype)
    identity = torch.eye(n, dtype=dtype).expand_as(Q)
    torch.testing.assert_close(Q.mH @ Q, identity)
    trace = torch.real(Q.diagonal(dim1=-2, dim2=-1).sum(-1))
    # P. Diaconis and M. Shahshahani, 1994: the trace has mean 0 and variance 1 (real), 1/2 for its real part (complex).
    variance = 0.5 if dtype.is_complex else 1.0
    assert abs(trace.mean()) < 5 * (variance / draws) ** 0.5
    assert abs(trace.var() - variance) < 5 * (2 / draws) ** 0.5


@pytest.mark.parametrize(("dtype", "power"), [(torch.float64, 1), (torch.complex128, 2)], ids=["real", "complex"])
def test_a_1_by_1_contraction_is_uniform_on_the_interval_or_the_disc(dtype: torch.dtype, power: int) -> None:
    radius = maps.contraction((2000, 1, 1), dtype=dtype).abs().flatten()
    assert scipy.stats.kstest(radius**power, "uniform").pvalue > 1e-4


def test_contractions_fill_the_ball_of_matrices_uniformly() -> None:
    # A ball of dimension d: the norm of a uniform point to the power d is uniform on [0, 1].
    largest = torch.linalg.svdvals(maps.contraction((2000, 3, 2), dtype=torch.float64))[:, 0]
    assert scipy.stats.kstest(largest**6, "uniform").pvalue > 1e-4
