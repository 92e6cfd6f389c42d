"""The ways around a map: the same value and the same derivatives, of every order, as the map's own operations give."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from paraform import maps

MAPS = [maps.matrix_exp_at, maps.cayley_at, maps.householder_at, maps.polar_at]
EACH_MAP = pytest.mark.parametrize("move", MAPS, ids=lambda move: move.__name__)
SHAPES = pytest.mark.parametrize("shape", [(4, 4), (5, 2), (2, 3, 3), (1, 1), (0, 0)], ids=str)
# In float64 at rest, by the polynomials of degree 4, 8 and 16, and by three doublings and more.
SIZES = pytest.mark.parametrize("size", [0.0, 1e-4, 1e-2, 0.1, 3.0])


def point(shape: tuple, size: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return maps.haar(shape, dtype=dtype), (size * torch.randn(shape, dtype=dtype)).requires_grad_()


@EACH_MAP
@SHAPES
@SIZES
def test_derivatives_are_those_of_finite_differences(move: Callable, shape: tuple, size: float) -> None:
    base, raw = point(shape, size)
    assert gradcheck(lambda raw: move(base, raw), raw)
    assert gradgradcheck(lambda raw: move(base, raw), raw)


@pytest.mark.parametrize("move", [maps.matrix_exp_at, maps.cayley_at, maps.polar_at], ids=lambda move: move.__name__)
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_derivatives_of_complex_maps_are_those_of_finite_differences(move: Callable, size: float) -> None:
    for shape in [(3, 3), (4, 2)]:
        base, raw = point(shape, size, torch.complex128)
        assert gradcheck(lambda raw: move(base, raw), raw)  # noqa: B023
        assert gradgradcheck(lambda raw: move(base, raw), raw)  # noqa: B023


@EACH_MAP
@pytest.mark.parametrize("shape", [(6, 6), (6, 3)], ids=str)
@SIZES
def test_a_shortcut_and_the_map_itself_come_to_the_same(move: Callable, shape: tuple, size: float) -> None:
    base, raw = point(shape, size)
    by_value = torch.randn(shape, dtype=torch.float64)
    own = move.__wrapped__  # what autograd differentiates operation by operation
    while hasattr(own, "__wrapped__"):
        own = own.__wrapped__
    torch.testing.assert_close(move(base, raw), own(base, raw), rtol=0, atol=1e-14)
    found, expected = (torch.autograd.grad(each(base, raw), raw, by_value)[0] for each in (move, own))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@EACH_MAP
@SIZES
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward-mode rules use it
def test_transforms_give_what_autograd_gives(move: Callable, size: float) -> None:
    base, raw = point((4, 4), size)
    by_value = torch.randn(4, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad(move(base, raw), raw, by_value)

    def loss(raw: Tensor) -> Tensor:
        return (move(base, raw) * by_value).sum()

    def of_all(like: Tensor, raw: Tensor) -> Tensor:
        return move(base.expand_as(like), raw)

    torch.testing.assert_close(torch.func.grad(loss)(raw.detach()), expected)
    stack = torch.stack([raw.detach(), raw.detach() / 2])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(stack)[0], expected)
    direction = torch.randn_like(raw)
    _, along = torch.func.jvp(loss, (raw.detach(),), (direction,))
    torch.testing.assert_close(along, (expected * direction).sum())
    for whole in (raw.detach(), stack):
        rows = [
            torch.autograd.functional.jacobian(partial(of_all, whole), whole, vectorize=way) for way in (True, False)
        ]
        torch.testing.assert_close(*rows)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(raw), raw)[0], expected)


@EACH_MAP
@SIZES
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_step_before_the_backward_pass_does_not_change_the_gradient(
    move: Callable, size: float, create_graph: bool
) -> None:
    base, raw = point((4, 4), size)
    by_value = torch.randn(4, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad((move(base, raw) * by_value).sum(), raw, create_graph=create_graph)
    value = (move(base, raw) * by_value).sum()
    with torch.no_grad():
        raw.add_(1)
    (found,) = torch.autograd.grad(value, raw, create_graph=create_graph)
    torch.testing.assert_close(found, expected)


@EACH_MAP
def test_inside_a_transform_of_something_else_a_map_is_as_ever(move: Callable) -> None:
    base, raw = point((4, 4), 0.1)
    value = move(base, raw)
    for transform in (torch.func.vmap, torch.func.grad):
        inside = transform(lambda x: x * move(base, raw).detach().sum())
        torch.testing.assert_close(
            inside(torch.ones(3) if transform is torch.func.vmap else torch.tensor(1.0)).max(),
            value.detach().sum(),
            check_dtype=False,
        )


@EACH_MAP
def test_a_base_that_is_differentiated_gets_its_gradient(move: Callable) -> None:
    base, raw = point((3, 3), 0.0)
    assert torch.autograd.grad(move(base.requires_grad_(), raw).sum(), base)[0].any()


@EACH_MAP
def test_a_value_at_rest_is_not_the_base_itself(move: Callable) -> None:
    base, raw = point((3, 3), 0.0)
    before = base.clone()
    move(base, raw.detach()).add_(1)
    assert torch.equal(base, before)


@EACH_MAP
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200])
def test_numbers_that_are_no_numbers_do_not_become_some(move: Callable, bad: float) -> None:
    base, raw = point((3, 3), 0.1)
    with torch.no_grad():
        raw[2, 0] = bad
    value = move(base, raw)
    error = maps.orthogonality_error(value)
    assert not torch.isfinite(value).all() or error < 1e-10


def test_tensors_for_the_backward_pass_are_saved_where_hooks_see_them() -> None:
    base, raw = point((8, 8), 3.0)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(x.numel()) or x, lambda x: x):
        maps.matrix_exp_at(base, raw)
    assert sum(packed) >= 10 * 64


@EACH_MAP
@SIZES
def test_a_hook_of_the_raw_tensor_runs_once_in_a_backward_pass_that_can_be_differentiated(
    move: Callable, size: float
) -> None:
    base, raw = point((4, 4), size)
    by_value = torch.randn(4, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad((move(base, raw) * by_value).sum(), raw)
    raw.register_hook(lambda gradient: 2 * gradient)
    (found,) = torch.autograd.grad((move(base, raw) * by_value).sum(), raw, create_graph=True)
    torch.testing.assert_close(found.detach(), 2 * expected)


def test_hooks_of_a_size_and_a_direction_run_once_too() -> None:
    v, g = torch.randn(3, 4, requires_grad=True), torch.rand(3, 1).requires_grad_()
    for value in (lambda: maps.sized(v, g, 0), lambda: maps.on_sphere(v, -1) * g):
        by_value = torch.randn(3, 4)
        expected = torch.autograd.grad((value() * by_value).sum(), (v, g))
        handles = [x.register_hook(lambda gradient: 2 * gradient) for x in (v, g)]
        found = torch.autograd.grad((value() * by_value).sum(), (v, g), create_graph=True)
        for handle, one, other in zip(handles, found, expected, strict=True):
            handle.remove()
            torch.testing.assert_close(one.detach(), 2 * other)


def test_a_derivative_of_a_derivative_of_what_was_written_to_meanwhile_raises() -> None:
    base, raw = point((4, 4), 0.1)
    between = raw * 1
    value = maps.cayley_at(base, between)
    between.mul_(5)
    with pytest.raises(RuntimeError, match="written to"):
        torch.autograd.grad(value.sum(), raw, create_graph=True)
