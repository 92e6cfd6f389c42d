"""The other orthogonal sets: rotations, subspaces, almost orthogonal and symplectic matrices; laws of samples."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor, nn

from paraform import maps
from paraform.constraints import AlmostOrthogonal, Constraint, Grassmann, Hamiltonian, Orthogonal, Symplectic
from paraform.parametrize import register_parametrization

J = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]], dtype=torch.float64)


class Plain(nn.Module):
    def __init__(self, value: Tensor, constraint: Constraint) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())
        register_parametrization(self, "weight", constraint)


def trained(layer: nn.Module, target: Tensor, steps: int, lr: float = 0.05, decay: float = 0.0) -> Tensor:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer.weight - target).abs().square().sum().backward()
        optimizer.step()
    return layer.weight.detach()


@pytest.mark.parametrize("map", ["auto", "cayley", "matrix_exp", "householder", "polar"])
def test_a_matrix_of_determinant_minus_one_becomes_the_nearest_rotation_and_stays_one(map: str) -> None:
    value = torch.diag(torch.tensor([3.0, 2.0, -0.5], dtype=torch.float64))
    layer = Plain(value, Orthogonal(map, special=True))
    torch.testing.assert_close(layer.weight.detach(), torch.eye(3, dtype=torch.float64))
    after = trained(layer, -torch.eye(3, dtype=torch.float64), 50, decay=0.1)
    torch.testing.assert_close(torch.linalg.det(after), torch.ones((), dtype=torch.float64))


def test_no_rotation_is_nearer_than_the_projection() -> None:
    value = torch.randn(3, 3, dtype=torch.float64)
    value = value if torch.linalg.det(value) < 0 else value[[1, 0, 2]]
    nearest = torch.dist(Orthogonal(special=True).project(value), value)
    rotations = torch.from_numpy(scipy.stats.special_ortho_group.rvs(3, size=20000, random_state=0))
    assert (rotations - value).flatten(1).norm(dim=1).min() >= nearest


def test_special_unitary_matrices_keep_a_determinant_of_one() -> None:
    target = torch.eye(3, dtype=torch.complex128) * 1j
    after = trained(Plain(torch.randn(3, 3, dtype=torch.complex128), Orthogonal(special=True)), target, 30)
    torch.testing.assert_close(torch.linalg.det(after), torch.ones((), dtype=torch.complex128))
    torch.testing.assert_close(after @ after.mH, torch.eye(3, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Orthogonal(special=True).right_inverse(torch.randn(3, 2)), "square matrices, of which some"),
        (lambda: Orthogonal("cayley", True).right_inverse(torch.eye(2) + 0j), "only map='matrix_exp'"),
        (lambda: Orthogonal("qr"), "out of auto, matrix_exp, cayley, householder, polar"),
        (lambda: AlmostOrthogonal(1.0), "above 0 and below 1"),
        (lambda: AlmostOrthogonal(0.1).right_inverse(torch.randn(2, 2, 3, 3)), "as one matrix write Flatten"),
        (lambda: Symplectic().right_inverse(torch.randn(3, 3)), "even number of rows"),
        (lambda: register_parametrization(nn.Conv1d(4, 8, 3), "weight", Grassmann()), "kernel of Conv1d"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wrong()


def test_the_map_that_was_chosen_is_shown_once_the_shape_is_known() -> None:
    shown = []
    for size in (3, 5):
        layer = register_parametrization(nn.Linear(3, size), "weight", Orthogonal(strict=True))
        shown.append(str(layer.parametrizations.weight[0]))
    assert shown == [
        "Orthogonal(map='auto' -> 'cayley', strict=True)",
        "Orthogonal(map='auto' -> 'cayley', strict=True)",
    ]
    assert str(Orthogonal()) == "Orthogonal()"


@pytest.mark.parametrize("shape", [(4, 4), (6, 3)])
def test_the_polar_map_is_scipys_polar_factor_of_the_base_and_its_tangent(shape: tuple[int, int]) -> None:
    base, raw = maps.haar(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    if shape[0] == shape[1]:
        tangent = base @ maps.skew_from_lower(raw)
    else:
        inner = base.T @ raw
        tangent = base @ (inner - inner.T) + raw - base @ inner
    expected = torch.from_numpy(scipy.linalg.polar((base + tangent).numpy())[0])
    torch.testing.assert_close(maps.polar_at(base, raw), expected)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
def test_the_polar_map_has_exact_derivatives_where_singular_values_repeat_and_are_large(
    size: float, dtype: torch.dtype
) -> None:
    base, zero, identity = torch.eye(4, 2, dtype=dtype), torch.zeros(2, 2, dtype=dtype), torch.eye(2, dtype=dtype)
    raw = torch.cat([zero, size * identity]).requires_grad_()

    def scaled(raw: Tensor) -> Tensor:
        return maps.polar_at(base, raw) * max(size, 1.0)  # derivatives are in proportion to 1 / size

    assert torch.autograd.gradcheck(scaled, [raw])
    assert torch.autograd.gradgradcheck(scaled, [raw])


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_a_huge_raw_tensor_of_the_polar_map_gives_an_orthogonal_weight_in_float32(size: float) -> None:
    base, raw = maps.haar((20, 8)), torch.randn(20, 8)
    raw = raw + size / 10 * torch.outer(raw[:, 0], raw[0])
    assert maps.orthogonality_error(maps.polar_at(base, raw)) < 1e-4


@pytest.mark.parametrize("map", ["polar", "auto"])
def test_a_thousand_steps_in_single_precision_leave_the_weight_orthogonal(map: str) -> None:
    layer = Plain(torch.randn(40, 20), Orthogonal(map))
    after = trained(layer, torch.randn(40, 20), 1000, lr=0.01, decay=0.1)
    assert torch.dist(after.T @ after, torch.eye(20)) < 2e-5


def test_the_span_moves_to_the_target_and_turns_within_it_are_no_freedom() -> None:
    target = maps.haar((6, 2), dtype=torch.float64)
    layer = Plain(torch.randn(6, 2, dtype=torch.float64), Grassmann())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-(target.T @ layer.weight).square().sum()).backward()
        optimizer.step()
    Q = layer.weight.detach()
    torch.testing.assert_close(Q @ Q.T, target @ target.T, rtol=0, atol=1e-3)
    # A loss that only a turn within the span could lower has no gradient at the base.
    fresh = Plain(Q, Grassmann())
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    (Q @ turn * fresh.weight).sum().backward()
    torch.testing.assert_close(fresh.parametrizations.weight.original.grad, torch.zeros_like(Q), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 5)])
def test_singular_values_stay_within_the_slack_and_reach_both_ends(shape: tuple[int, int]) -> None:
    for factor, end in ((10.0, 1.2), (0.0, 0.8)):
        layer = Plain(torch.randn(shape, dtype=torch.float64), AlmostOrthogonal(0.2))
        start = torch.linalg.svdvals(layer.weight.detach())
        assert start.min() >= 0.8 - 1e-12
        assert start.max() <= 1.2 + 1e-12
        layer.weight = torch.eye(*shape, dtype=torch.float64)
        after = trained(layer, factor * torch.eye(*shape, dtype=torch.float64), 300)
        S = torch.linalg.svdvals(after)
        torch.testing.assert_close(S, torch.full_like(S, end), rtol=0, atol=2e-3)
        assert S.min() >= 0.8 - 1e-12
        assert S.max() <= 1.2 + 1e-12


def test_a_trained_symplectic_matrix_keeps_the_form_and_reaches_a_target() -> None:
    target = Symplectic().sample((4, 4), dtype=torch.float64)
    after = trained(Plain(torch.randn(4, 4, dtype=torch.float64), Symplectic()), target, 2000)
    torch.testing.assert_close(after.T @ J @ after, J)
    assert torch.dist(after, target) < 0.01 * torch.linalg.matrix_norm(target)


def test_the_exponential_of_a_hamiltonian_matrix_is_symplectic_and_near_matrices_move_little() -> None:
    A = Hamiltonian().sample((4, 4), dtype=torch.float64)
    M = torch.from_numpy(scipy.linalg.expm(A.numpy()))
    assert Symplectic().residual(M) < 1e-9
    assert torch.equal(Symplectic().project(M) - M < 1e-9, torch.ones(4, 4, dtype=torch.bool))
    noise = 1e-3 * torch.randn(4, 4, dtype=torch.float64)
    assert torch.dist(Symplectic().project(M + noise), M) < 1e-2 * torch.linalg.matrix_norm(M) ** 2


@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
def test_a_nearly_symplectic_matrix_moves_by_no_more_than_it_was_off(size: float, dtype: torch.dtype) -> None:
    M = Symplectic().sample((6, 6), dtype=dtype)
    value = M + size * torch.randn(6, 6, dtype=dtype)
    assert torch.dist(Symplectic().project(value), value) < 1.001 * torch.dist(M, value)


def test_no_descent_from_the_projection_finds_a_symplectic_matrix_that_is_nearer() -> None:
    for _ in range(4):
        value = torch.randn(4, 4, dtype=torch.float64)
        M, X = Symplectic().project(value).numpy(), value.numpy()

        def distance(numbers: np.ndarray, M: np.ndarray = M, X: np.ndarray = X) -> float:
            A = numbers.reshape(4, 4)
            return float(np.linalg.norm(M @ scipy.linalg.expm(J.numpy() @ (A + A.T)) - X))

        found = scipy.optimize.minimize(distance, np.zeros(16)).fun
        assert found > (1 - 1e-3) * distance(np.zeros(16))  # over 150 seeds at least 0.9995


def test_two_by_two_symplectic_matrices_are_those_of_determinant_one() -> None:
    M = trained(Plain(torch.randn(2, 2, dtype=torch.float64), Symplectic()), torch.randn(2, 2, dtype=torch.float64), 50)
    torch.testing.assert_close(torch.linalg.det(M), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 3])
def test_no_descent_finds_a_special_unitary_matrix_that_is_nearer(n: int) -> None:
    def unitary(numbers: np.ndarray) -> np.ndarray:
        X = numbers.reshape(2, n, n)
        A = X[0] + 1j * X[1]
        A = A - A.conj().T
        return scipy.linalg.expm(A - np.trace(A) / n * np.eye(n))

    rng = np.random.default_rng(0)
    for _ in range(4):
        value = torch.randn(n, n, dtype=torch.complex128)
        ours = float(torch.dist(Orthogonal(special=True).project(value), value))
        found = [
            scipy.optimize.minimize(lambda x, X=value: np.linalg.norm(unitary(x) - X.numpy()) ** 2, start).fun ** 0.5
            for start in rng.normal(size=(6, 2 * n * n))
        ]
        assert abs(min(found) - ours) < 1e-5


def test_special_unitary_samples_of_two_by_two_have_the_law_of_sato_and_tate() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = Orthogonal(special=True).sample((2000, 2, 2), dtype=torch.complex128, generator=generator)
    half_traces = drawn.diagonal(dim1=-2, dim2=-1).sum(-1).real / 2
    assert scipy.stats.kstest(half_traces.numpy(), scipy.stats.semicircular.cdf).pvalue > 1e-3


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("slack", [0.25, 0.01])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 5), (5, 3)], ids=str)
def test_training_takes_a_weight_from_the_edge_of_the_slack(make: type, slack: float, sizes: tuple[int, int]) -> None:
    layer = nn.Linear(*sizes, bias=False)
    nn.init.zeros_(layer.weight)  # all singular values are too small
    register_parametrization(layer, "weight", AlmostOrthogonal(slack))
    target = maps.polar(layer.weight.detach())
    start = torch.dist(layer.weight, target).detach()
    optimizer = make(layer.parameters(), lr=0.1 if make is torch.optim.SGD else 0.1 * slack)
    for _ in range(200):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    assert torch.dist(layer.weight, target) < 0.05 * start


def test_a_step_past_the_edge_of_the_slack_is_no_dead_end() -> None:
    layer = register_parametrization(nn.Linear(16, 16, bias=False), "weight", AlmostOrthogonal(0.2))
    assert (torch.linalg.svdvals(layer.weight) < 0.8 + 1e-5).sum() > 8  # a layer's own start is below the set
    target = 1.1 * maps.polar(layer.weight.detach())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)  # its first steps are as long as any, and blind
    for _ in range(300):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    assert torch.dist(layer.weight, target) < 0.02


def test_the_only_span_of_full_dimension_is_left_alone_by_training() -> None:
    layer = register_parametrization(nn.Linear(3, 3, bias=False), "weight", Grassmann())
    before = layer.weight.detach().clone()
    layer.weight.sin().sum().backward()
    torch.optim.AdamW(layer.parameters(), lr=1.0).step()
    assert torch.equal(layer.weight, before)


def traces(samples: Tensor) -> list[float]:
    return samples.diagonal(dim1=-2, dim2=-1).sum(-1).tolist()


def test_samples_have_the_haar_laws_of_scipy() -> None:
    count = 2000
    ours = {
        "orthogonal": Orthogonal().sample((count, 3, 3), dtype=torch.float64),
        "special": Orthogonal(special=True).sample((count, 3, 3), dtype=torch.float64),
        "unitary": Orthogonal().sample((count, 3, 3), dtype=torch.complex128),
    }
    theirs = {
        "orthogonal": scipy.stats.ortho_group.rvs(3, size=count, random_state=1),
        "special": scipy.stats.special_ortho_group.rvs(3, size=count, random_state=1),
        "unitary": scipy.stats.unitary_group.rvs(3, size=count, random_state=1),
    }
    for name, samples in ours.items():
        one, other = traces(samples.abs().square() if samples.is_complex() else samples), theirs[name]
        reference = abs(other) ** 2 if samples.is_complex() else other
        assert scipy.stats.ks_2samp(one, traces(torch.from_numpy(reference))).pvalue > 1e-3, name


def test_samples_of_rotations_have_the_angles_that_haar_measure_gives() -> None:
    R = Orthogonal(special=True).sample((4000, 3, 3), dtype=torch.float64)
    angles = torch.acos(((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))
    # The density of the angle of a random rotation of space is (1 - cos) / pi.
    law = scipy.stats.kstest(angles.numpy(), lambda t: (t - torch.sin(torch.as_tensor(t)).numpy()) / torch.pi)
    assert law.pvalue > 1e-3


def test_almost_orthogonal_samples_have_uniform_singular_values() -> None:
    S = torch.linalg.svdvals(AlmostOrthogonal(0.3).sample((1000, 3, 2), dtype=torch.float64)).flatten()
    assert scipy.stats.kstest(S.numpy(), scipy.stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_large_matrix_becomes_a_rotation_though_a_product_of_its_pivots_underflows(dtype: torch.dtype) -> None:
    rotation = Orthogonal(special=True)
    assert rotation.residual(rotation.project(torch.randn(512, 512, dtype=dtype))) < 1e-3
    assert rotation.residual(rotation.sample((512, 512), dtype=dtype)) < 1e-3


def test_a_weight_whose_squares_overflow_does_not_count_as_symplectic() -> None:
    layer = Plain(1e30 * torch.randn(4, 4), Symplectic())
    assert layer.parametrizations.weight[0].distance > 1e29
    assert Symplectic().residual(layer.weight) < 1e-3
