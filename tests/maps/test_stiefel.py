"""The maps onto orthogonal matrices, against the large matrices that they never form."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch.nn.utils import parametrizations

from paraform import maps

SHAPES = pytest.mark.parametrize("shape", [(6, 6), (7, 3), (5, 4), (6, 1), (1, 1)], ids=str)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])


def turning(base: Tensor, raw: Tensor) -> np.ndarray:
    """The n x n skew matrix that the module's text defines."""
    if base.shape[0] == base.shape[1]:
        lower = np.tril(raw.numpy())
        A = lower - lower.conj().T
        return base.numpy() @ A @ base.numpy().conj().T
    A = raw.numpy() @ base.numpy().conj().T
    return A - A.conj().T


def reflections(base: Tensor, raw: Tensor) -> np.ndarray:
    """-H_1 ... H_k base, one n x n reflection after the other."""
    B, X = base.numpy(), raw.numpy()
    if B.shape[0] == B.shape[1]:
        X = B @ X  # raw is in the coordinates of the base
    Q = np.eye(len(B))
    for i in range(B.shape[1]):
        v = B[:, i] + X[:, i] - sum(B[:, j] * (B[:, j] @ X[:, i]) for j in range(i + 1))
        Q = Q @ (np.eye(len(B)) - 2 * np.outer(v, v) / (v @ v))
    return -Q @ B


@SHAPES
@DTYPES
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_matrix_exp_at_is_the_exponential_of_the_large_matrix(shape: tuple, dtype: torch.dtype, size: float) -> None:
    base, raw = maps.haar(shape, dtype=dtype), size * torch.randn(shape, dtype=dtype)
    expected = scipy.linalg.expm(turning(base, raw)) @ base.numpy()
    np.testing.assert_allclose(maps.matrix_exp_at(base, raw), expected, atol=1e-12)


@SHAPES
@DTYPES
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_cayley_at_is_the_cayley_transform_of_the_large_matrix(shape: tuple, dtype: torch.dtype, size: float) -> None:
    base, raw = maps.haar(shape, dtype=dtype), size * torch.randn(shape, dtype=dtype)
    A, identity = turning(base, raw), np.eye(shape[0])
    expected = scipy.linalg.solve(identity - A / 2, identity + A / 2) @ base.numpy()
    np.testing.assert_allclose(maps.cayley_at(base, raw), expected, atol=1e-12)


@SHAPES
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_householder_at_is_a_product_of_reflections(shape: tuple, size: float) -> None:
    base, raw = maps.haar(shape, dtype=torch.float64), size * torch.randn(shape, dtype=torch.float64)
    np.testing.assert_allclose(maps.householder_at(base, raw), reflections(base, raw), atol=1e-12)


@SHAPES
@DTYPES
def test_almost_orthogonal_at_turns_by_the_skew_part_and_stretches_by_the_hermitian_one(
    shape: tuple, dtype: torch.dtype
) -> None:
    base, raw = maps.haar(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    A = raw.numpy() @ base.numpy().conj().T
    A, identity = A - A.conj().T, np.eye(shape[0])
    Q = scipy.linalg.solve(identity - A / 2, identity + A / 2) @ base.numpy()
    s, V = np.linalg.eigh(maps.hermitian_part(base.mH @ raw).numpy())
    expected = Q @ (V * (1 + 0.3 * np.sin(4 * np.arctan(s / 1.2)))) @ V.conj().T
    np.testing.assert_allclose(maps.almost_orthogonal_at(base, raw, 0.3), expected, atol=1e-12)


def test_cayley_has_the_eigenvalues_of_its_definition() -> None:
    A = maps.skew(torch.randn(5, 5, dtype=torch.float64))
    eigenvalues = scipy.linalg.eigvals(A)
    expected = (1 + eigenvalues / 2) / (1 - eigenvalues / 2)
    found = scipy.linalg.eigvals(maps.cayley(A))
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-12)


@pytest.mark.parametrize("turn", [maps.matrix_exp_at, maps.cayley_at, maps.householder_at])
@SHAPES
def test_a_zero_raw_matrix_gives_the_base_to_the_bit(turn: object, shape: tuple) -> None:
    base = maps.haar(shape)
    assert torch.equal(turn(base, torch.zeros(shape)), base)


@pytest.mark.parametrize("turn", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("shape", [(96, 96), (192, 24), (24, 23)], ids=str)
@pytest.mark.parametrize("size", [0.01, 1.0])
def test_in_float32_the_error_is_no_more_than_a_few_times_that_of_torch(turn: str, shape: tuple, size: float) -> None:
    theirs = torch.nn.Linear(shape[1], shape[0])
    parametrizations.orthogonal(theirs, orthogonal_map=turn)
    with torch.no_grad():
        original = theirs.parametrizations.weight.original
        original.add_(size * torch.randn_like(original).tril(-1))
    ours = getattr(maps, f"{turn}_at")(maps.polar(torch.randn(shape)), size * torch.randn(shape))
    error, reference = (maps.orthogonality_error(Q.double()) for Q in (ours, theirs.weight))
    a_few = 4  # over 40 seeds the largest ratio is 2.3 (Cayley, small raw) and the median 0.7
    assert error < a_few * reference


@pytest.mark.parametrize("shape", [(96, 96), (192, 24)], ids=str)
def test_a_large_raw_matrix_costs_the_exponential_no_orthogonality(shape: tuple) -> None:
    base = maps.polar(torch.randn(shape))
    Q = maps.matrix_exp_at(base, 3 * torch.randn(shape))
    a_few = 4  # over 30 seeds 0.9 to 1.8; without the Newton-Schulz step 21 to 78
    assert maps.orthogonality_error(Q.double()) < a_few * maps.orthogonality_error(base.double())


@pytest.mark.parametrize("turn", [maps.matrix_exp_at, maps.cayley_at])
@pytest.mark.parametrize("shape", [(128, 64), (40, 4), (50, 30)], ids=str)
def test_one_dominant_direction_in_the_raw_matrix_costs_no_orthogonality(turn: object, shape: tuple) -> None:
    rows, columns = shape
    raw = torch.randn(rows, 1) @ torch.randn(1, columns) + 0.01 * torch.randn(shape)
    raw *= 50 / torch.linalg.matrix_norm(raw, ord=2)
    Q = turn(maps.polar(torch.randn(shape)), raw)
    factor = torch.linalg.qr(torch.randn(shape)).Q
    a_few = 4  # over 30 seeds at most 2.4; without the Newton-Schulz step at least 37
    assert maps.orthogonality_error(Q.double()) < a_few * maps.orthogonality_error(factor.double())


def test_nothing_of_size_n_by_n_is_allocated_for_a_tall_matrix() -> None:
    n, k = 3000, 2
    base, raw = maps.haar((n, k)), torch.randn(n, k, requires_grad=True)
    for turn in (maps.matrix_exp_at, maps.cayley_at, maps.householder_at):
        largest = Largest()
        with largest:
            turn(base, raw).sum().backward()
        assert largest.numel < 10 * n * k


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns, the backward pass included."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [out.numel() for out in torch.utils._pytree.tree_leaves(result) if isinstance(out, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result
