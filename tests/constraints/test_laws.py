"""What every constraint keeps, whatever its set is."""

import copy
import io
import pickle

import pytest
import torch

from paraform.constraints import ConstraintError, ProjectionWarning
from paraform.testing import LAWS, check_parametrization
from tests.conftest import SEED
from tests.constraints.sets import (
    CASES,
    ENGINES,
    FOR_ALL,
    MATRIX_BY_MATRIX,
    Case,
    Layer,
    assert_close,
    assert_inside,
    value_of,
)

EACH_LAW = pytest.mark.parametrize(
    ("case", "law"),
    [pytest.param(case, law, id=f"{law}-{case}") for case in CASES for law in LAWS if case.has(law)],
)
HAS_AN_OUTSIDE = pytest.mark.parametrize("case", [case for case in CASES if case.outside], ids=str)


def steps(layer: Layer, case: Case, count: int = 3) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(count):
        optimizer.zero_grad()
        (layer.weight - case.random()).abs().square().sum().backward()
        optimizer.step()


@EACH_LAW
def test_every_law_holds(case: Case, law: str) -> None:
    check_parametrization(case.make, case.shape, dtype=case.dtype, laws=[law], seed=SEED)


@FOR_ALL
@ENGINES
def test_the_value_is_in_the_set_from_registration_on(case: Case, engine: object) -> None:
    layer = case.layer(engine)
    assert_inside(layer.constraint, layer.weight)
    steps(layer, case)
    assert_inside(layer.constraint, layer.weight)


@FOR_ALL
@ENGINES
def test_an_assigned_value_of_the_set_is_taken_without_a_warning(case: Case, engine: object) -> None:
    layer = case.layer(engine)
    steps(layer, case)
    value = layer.constraint.sample(case.shape, dtype=case.dtype)
    layer.weight = value
    assert_close(layer.weight, value)
    assert layer.constraint.distance == 0


@HAS_AN_OUTSIDE
@ENGINES
def test_an_assigned_value_outside_moves_to_its_projection_with_one_warning(case: Case, engine: object) -> None:
    layer = case.layer(engine)
    value = 3 * case.random()
    with pytest.warns(ProjectionWarning) as caught:
        layer.weight = value
    projected = layer.constraint.project(value)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_close(layer.weight, projected)
    assert_close(layer.constraint.distance, torch.linalg.vector_norm(value - projected))


@HAS_AN_OUTSIDE
@ENGINES
def test_a_strict_constraint_refuses_it_and_changes_nothing(case: Case, engine: object) -> None:
    layer = case.layer(engine, strict=True).eval()
    before, state = layer.weight.clone(), copy.deepcopy(layer.state_dict())
    with pytest.raises(ConstraintError, match="Frobenius distance"):
        layer.weight = 3 * case.random()
    assert torch.equal(layer.weight, before)
    torch.testing.assert_close(layer.state_dict(), state, rtol=0, atol=0)


@FOR_ALL
def test_a_value_of_another_shape_or_not_finite_is_refused_and_changes_nothing(case: Case) -> None:
    constraint, raws = case.registered()
    before = constraint(*raws)
    for bad in (case.random().unsqueeze(0), torch.full(case.shape, torch.nan, dtype=case.dtype)):
        with pytest.raises(ValueError, match=r"expects|registered"):
            constraint.right_inverse(bad)
    assert torch.equal(constraint(*raws), before)


@MATRIX_BY_MATRIX
def test_a_batch_is_its_matrices_one_by_one(case: Case) -> None:
    batch = torch.randn((2, *case.shape), dtype=case.dtype)
    together = case.make().eval()
    values = value_of(together, together.right_inverse(batch))
    for matrix, value, residual in zip(batch, values, together.residual(batch), strict=True):
        alone = case.make().eval()
        assert_close(value_of(alone, alone.right_inverse(matrix)), value)
        assert_close(alone.residual(matrix), residual)


REAL = pytest.mark.parametrize("case", [case for case in CASES if not case.dtype.is_complex], ids=str)


@REAL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_cast_back(case: Case, dtype: torch.dtype) -> None:
    constraint, raws = case.registered()
    constraint, raws = constraint.to(dtype), tuple(raw.to(dtype) for raw in raws)
    wide = copy.deepcopy(constraint).float()
    # A base was rounded, and widening it moves it back into the set.
    apart = 4 * torch.finfo(dtype).eps if any(buffer.is_floating_point() for buffer in constraint.buffers()) else 0
    value = wide(*(raw.float() for raw in raws)).to(dtype)
    torch.testing.assert_close(constraint(*raws), value, rtol=0, atol=apart * max(1, float(value.abs().max())))


@REAL
def test_half_precision_values_are_admitted_and_come_back(case: Case) -> None:
    constraint = case.make().eval()
    value = constraint.sample(case.shape, dtype=torch.bfloat16)
    raws = constraint.right_inverse(value)
    assert constraint.distance == 0
    back = value_of(constraint, raws)
    assert back.dtype == torch.bfloat16
    eps = torch.finfo(torch.bfloat16).eps
    torch.testing.assert_close(back, value, rtol=8 * eps, atol=2 * eps)


@FOR_ALL
@ENGINES
def test_a_copy_is_equal_and_independent(case: Case, engine: object) -> None:
    layer = case.layer(engine).eval()
    before = layer.weight.clone()
    other = copy.deepcopy(layer)
    assert torch.equal(other.weight, before)
    other.weight = layer.constraint.sample(case.shape, dtype=case.dtype)
    assert torch.equal(layer.weight, before)


@FOR_ALL
def test_a_pickled_constraint_gives_the_same_value_and_remembers_its_shape(case: Case) -> None:
    constraint, raws = case.registered()
    again = pickle.loads(pickle.dumps(constraint))
    assert torch.equal(again(*raws), constraint(*raws))
    with pytest.raises(ValueError, match="registered on a tensor of shape"):
        again.right_inverse(case.random().unsqueeze(0))


@FOR_ALL
@ENGINES
def test_a_saved_state_gives_the_same_value_in_a_new_layer(case: Case, engine: object) -> None:
    layer, other = case.layer(engine), case.layer(engine)
    steps(layer, case)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other.eval().weight, layer.eval().weight)


@FOR_ALL
def test_meta_and_fake_tensors_keep_their_shape(case: Case) -> None:
    with torch._subclasses.FakeTensorMode():
        fake = case.random()
        for value in (torch.empty(case.shape, dtype=case.dtype, device="meta"), fake):
            constraint = case.make().to(value.device)
            raws = constraint.right_inverse(value)
            out = value_of(constraint, raws)
            assert (out.shape, out.device) == (value.shape, value.device)


@FOR_ALL
def test_the_smallest_shapes_have_values_too(case: Case) -> None:
    for shape in case.edges:
        constraint = case.make().eval()
        value = value_of(constraint, constraint.right_inverse(torch.randn(shape, dtype=case.dtype)))
        assert value.shape == shape
        assert_inside(constraint, value)


@FOR_ALL
@pytest.mark.parametrize("size", [0.0, 1e30])
def test_zero_and_huge_values_give_finite_numbers(case: Case, size: float) -> None:
    dtype = torch.complex64 if case.dtype.is_complex else torch.float32
    constraint = case.make()
    raws = constraint.right_inverse(size * case.random(dtype))
    raws = tuple(raw.clone().requires_grad_() for raw in (raws if isinstance(raws, tuple) else (raws,)))
    value = constraint(*raws)
    gradients = torch.autograd.grad(value.abs().square().sum() if size == 0 else value.real.sum(), raws)
    for tensor in (value, constraint.distance, constraint.project(value), *gradients):
        assert torch.isfinite(torch.view_as_real(tensor) if tensor.is_complex() else tensor).all()
    assert not torch.isnan(constraint.residual(size * case.random(dtype))).any()


def test_the_table_has_every_constraint() -> None:
    import paraform.constraints as room

    exported = {getattr(room, name) for name in room.__all__}
    concrete = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, room.Constraint)}
    assert {type(case.make()) for case in CASES} == concrete - {room.Constraint}
