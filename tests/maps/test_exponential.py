"""The matrix exponential, against scipy, its series and finite differences."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from paraform import maps
from paraform.maps import taylor
from paraform.maps.exponential import exp_minus_identity, skew_expansion

POLYNOMIALS = {
    4: (taylor.degree_4, taylor.degree_4_gradient),
    8: (taylor.degree_8, taylor.degree_8_gradient),
    15: (taylor.degree_16, taylor.degree_16_gradient),
}
DEGREES = pytest.mark.parametrize("degree", POLYNOMIALS)
NORMS = [1e-30, 1e-6, 0.01, 0.03, 0.2, 0.5, 2.0, 3.0, 10.0, 100.0]


def skew_of_norm(norm: float, n: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    A = maps.skew(torch.randn(n, n, dtype=dtype))
    return A * (norm / torch.linalg.matrix_norm(A, 2))


@DEGREES
def test_the_polynomials_have_the_coefficients_of_the_exponential(degree: int) -> None:
    nilpotent = torch.diag(torch.ones(20, dtype=torch.float64), 1)  # entry k of the first row of its k-th power is 1
    found = POLYNOMIALS[degree][0](nilpotent, nilpotent @ nilpotent)[0][0]
    expected = torch.tensor([0.0] + [1 / math.factorial(k) for k in range(1, degree + 1)], dtype=torch.float64)
    torch.testing.assert_close(found[: degree + 1], expected, rtol=1e-14, atol=0)
    assert found[degree + 2 :].abs().max() < 1e-16
    assert 0 <= found[degree + 1] <= 1 / math.factorial(degree + 1)


@DEGREES
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_gradients_of_the_polynomials_are_those_of_autograd(degree: int, dtype: torch.dtype) -> None:
    polynomial, gradient = POLYNOMIALS[degree]
    X, X2, G = (torch.randn(3, 4, 4, dtype=dtype, requires_grad=True) for _ in range(3))
    value, *factors = polynomial(X, X2)
    expected = torch.autograd.grad(value, (X, X2), G.detach())
    with torch.no_grad():
        found = gradient(G, X, X2, *factors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("norm", NORMS)
def test_the_exponential_of_a_skew_matrix_is_that_of_scipy(norm: float) -> None:
    for dtype in (torch.float64, torch.complex128):
        A = skew_of_norm(norm, dtype=dtype)
        expected = scipy.linalg.expm(A.numpy())
        np.testing.assert_allclose(maps.skew_exp_minus_identity(A) + torch.eye(12), expected, atol=1e-14 * (1 + norm))


@pytest.mark.parametrize("norm", NORMS)
def test_small_digits_are_not_lost_to_the_identity(norm: float) -> None:
    A = skew_of_norm(norm)
    expected = torch.linalg.matrix_norm(torch.from_numpy(phi(A.numpy()) @ A.numpy()))
    found = torch.linalg.matrix_norm(maps.skew_exp_minus_identity(A) - torch.from_numpy(phi(A.numpy()) @ A.numpy()))
    assert found <= 1e-14 * (1 + norm) * expected


def phi(A: np.ndarray) -> np.ndarray:
    """(exp(A) - I) / A, by a block of a larger exponential."""
    n = len(A)
    block = np.block([[A, np.eye(n)], [np.zeros((n, 2 * n))]])
    return scipy.linalg.expm(block)[:n, n:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("norm", NORMS)
def test_in_single_precision_it_is_more_exact_than_torch(norm: float, dtype: torch.dtype) -> None:
    A = skew_of_norm(norm, 40, dtype)
    exact = torch.from_numpy(scipy.linalg.expm(A.numpy().astype(np.complex128)))
    ours, theirs = maps.skew_exp_minus_identity(A) + torch.eye(40), torch.matrix_exp(A[None])[0]
    rounding = torch.finfo(dtype).eps * 40**0.5
    assert torch.dist(ours, exact) <= max(torch.dist(theirs, exact), rounding)


def test_each_matrix_of_a_batch_is_computed_as_if_it_were_alone() -> None:
    batch = torch.stack([skew_of_norm(norm) for norm in (1e-3, 1.0, 30.0, 200.0)]).reshape(2, 2, 12, 12)
    alone = [maps.skew_exp_minus_identity(A) for A in batch.flatten(0, 1)]
    torch.testing.assert_close(
        maps.skew_exp_minus_identity(batch).flatten(0, 1), torch.stack(alone), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("norms", [(1e-4,), (0.02,), (0.5,), (9.0,), (0.3, 2.0, 40.0)], ids=str)
def test_the_gradient_written_by_hand_is_that_of_autograd(norms: tuple, dtype: torch.dtype) -> None:
    raw = torch.stack([skew_of_norm(norm, 5, dtype) for norm in norms]).tril().requires_grad_()
    G = torch.randn_like(raw)
    (expected,) = torch.autograd.grad(skew_expansion(raw.tril() - raw.tril().mH).value, raw, G)
    with torch.no_grad():
        expansion = skew_expansion(raw.tril() - raw.tril().mH)
        M = expansion.skew_gradient(G, *expansion.kept)
    torch.testing.assert_close((M - M.mH).tril(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [1e-20, 1e-3, 0.3, 5.0])
def test_the_exponential_of_any_matrix_is_that_of_scipy(size: float) -> None:
    X = size * torch.randn(2, 6, 6, dtype=torch.float64)
    found = exp_minus_identity(X) + torch.eye(6)
    expected = np.stack([scipy.linalg.expm(x) for x in X.numpy()])
    assert np.abs(found.numpy() - expected).max() <= 1e-13 * np.abs(expected).max()
    assert torch.autograd.gradcheck(exp_minus_identity, X.requires_grad_())


def test_matrices_of_no_size_and_batches_of_none_have_an_exponential() -> None:
    for shape in [(0, 0), (0, 3, 3), (2, 0, 0)]:
        assert maps.skew_exp_minus_identity(torch.zeros(shape)).shape == shape
        assert exp_minus_identity(torch.zeros(shape)).shape == shape
