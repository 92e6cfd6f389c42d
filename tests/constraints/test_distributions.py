"""Sets of torch.distributions: all that torch has a transform to, against torch's own maps and checks."""

import copy
import pickle

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Beta, Normal, Uniform, constraints, transform_to, transforms

from paraform.constraints import (
    ConstraintError,
    ProjectionWarning,
    Scaled,
    Simplex,
    from_distribution,
)
from paraform.parametrize import register_parametrization
from tests.conftest import SEED
from tests.constraints.sets import ENGINES

# One or more for each type in torch's registry, and a shape that it fits.
EXAMPLES = [
    (constraints.real, (2, 3)),
    (constraints.real_vector, (2, 3)),
    (constraints.independent(constraints.positive, 2), (2, 3)),
    (constraints.independent(constraints.corr_cholesky, 1), (2, 3, 3)),
    (constraints.positive, (2, 3)),
    (constraints.nonnegative, (2, 3)),
    (constraints.greater_than(2.0), (3,)),
    (constraints.greater_than_eq(torch.tensor([-1.0, 1e4])), (3, 2)),
    (constraints.less_than(-5.0), (3,)),
    (constraints.unit_interval, (3,)),
    (constraints.interval(-1, torch.tensor([2.0, 3.0])), (3, 2)),
    (constraints.half_open_interval(0.0, 1.0), ()),
    (constraints.simplex, (2, 4)),
    (constraints.lower_cholesky, (2, 3, 3)),
    (constraints.corr_cholesky, (2, 4, 4)),
    (constraints.positive_definite, (3, 3)),
    (constraints.positive_semidefinite, (2, 3, 3)),
    (constraints.cat([constraints.simplex, constraints.positive], dim=0, lengths=[1, 2]), (3, 2)),
    (constraints.cat([constraints.simplex, constraints.simplex], dim=-1, lengths=[2, 3]), (2, 5)),
    (constraints.stack([constraints.positive, constraints.less_than(0.0)]), (2, 3)),
    (constraints.stack([constraints.simplex, constraints.real_vector], dim=1), (3, 2)),
]
FOR_EACH = pytest.mark.parametrize(("given", "shape"), EXAMPLES, ids=lambda x: str(x).replace("\n", " "))


def test_every_constraint_that_torch_can_transform_to_has_an_example() -> None:
    assert set(transform_to._registry) == {type(given) for given, _ in EXAMPLES}


@FOR_EACH
def test_the_value_is_torchs_function_of_the_raw_tensor(given: constraints.Constraint, shape: tuple[int, ...]) -> None:
    constraint, theirs = from_distribution(given), transform_to(given)
    raw = torch.randn(theirs.inverse_shape(shape), dtype=torch.float64)
    torch.testing.assert_close(constraint(raw), theirs(raw).double(), check_stride=False)


@FOR_EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_whatever_is_projected_can_be_stored_and_read_again(
    given: constraints.Constraint, shape: tuple[int, ...], dtype: torch.dtype, size: float
) -> None:
    constraint = from_distribution(given)
    projected = constraint.project(size * torch.randn(shape, dtype=dtype))
    raw = constraint.right_inverse(projected)
    assert torch.isfinite(raw).all()
    back = constraint(raw)
    assert back.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        back, projected, rtol=(40 if dtype != torch.bfloat16 else 8) * eps, atol=4 * eps * max(1, size)
    )
    allowed = 20 * eps * max(1.0, float(back.abs().max())) * back.numel()
    assert (constraint.residual(back) <= allowed).all()


@FOR_EACH
def test_samples_and_projections_pass_torchs_own_check(given: constraints.Constraint, shape: tuple[int, ...]) -> None:
    constraint = from_distribution(given)
    for value in (
        constraint.sample(shape, dtype=torch.float64),
        constraint.project(torch.randn(shape, dtype=torch.float64)),
    ):
        if isinstance(given, constraints.cat | constraints.stack):  # torch cannot check pieces of unlike events
            pieces = (
                value.split(given.lengths, given.dim) if isinstance(given, constraints.cat) else value.unbind(given.dim)
            )
            assert all(each.check(piece).all() for each, piece in zip(given.cseq, pieces, strict=True))
        else:
            assert given.check(value).all()


@FOR_EACH
@ENGINES
def test_a_model_keeps_its_set_through_steps_with_decay_copies_and_files(
    given: constraints.Constraint, shape: tuple[int, ...], engine: object
) -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    engine.register_parametrization(model, "weight", from_distribution(given))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model.weight.sin().sum().backward()
        optimizer.step()
    constraint = model.parametrizations.weight[0]
    assert (constraint.residual(model.weight.detach()) < 1e-10).all()
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.weight, model.weight)
    again = pickle.loads(pickle.dumps(constraint))
    raw = model.parametrizations.weight.original
    assert torch.equal(again(raw), model.weight)


@FOR_EACH
def test_the_constraint_compiles_to_one_graph_and_exports(
    given: constraints.Constraint, shape: tuple[int, ...]
) -> None:
    torch._dynamo.reset()  # one function is compiled for each of them
    constraint = from_distribution(given).double()
    raw = constraint.right_inverse(constraint.sample(shape, dtype=torch.float64))
    compiled = torch.compile(constraint, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(raw), constraint(raw))
    torch.testing.assert_close(torch.export.export(constraint, (raw,)).module()(raw), constraint(raw))


@FOR_EACH
def test_the_freedom_is_the_rank_of_the_derivative_of_torchs_map(
    given: constraints.Constraint, shape: tuple[int, ...]
) -> None:
    raw = torch.randn(transform_to(given).inverse_shape(shape), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(transform_to(given), raw)
    rank = torch.linalg.matrix_rank(jacobian.reshape(torch.Size(shape).numel(), -1).double(), rtol=1e-10)
    assert from_distribution(given).dof(shape) == rank


def test_exponential_and_logistic_laws_of_samples_are_those_of_a_normal_number_mapped() -> None:
    generator = torch.Generator().manual_seed(SEED)
    positive = from_distribution(constraints.positive).sample((4000,), generator=generator, dtype=torch.float64)
    assert stats.kstest(positive.numpy(), stats.lognorm(s=1).cdf).pvalue > 1e-3
    unit = from_distribution(constraints.unit_interval).sample((4000,), generator=generator, dtype=torch.float64)
    assert stats.kstest(torch.logit(unit).numpy(), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_value_on_the_edge_is_taken_without_a_warning_and_can_train(edge: float, dtype: torch.dtype) -> None:
    constraint = from_distribution(constraints.unit_interval, strict=True)
    constraint.right_inverse(torch.full((2,), 0.5, dtype=dtype))
    raw = constraint.right_inverse(torch.full((2,), edge, dtype=dtype)).requires_grad_()
    value = constraint(raw)
    torch.testing.assert_close(value, torch.full((2,), edge, dtype=dtype), rtol=0, atol=2 * torch.finfo(dtype).eps)
    (slope,) = torch.autograd.grad(value.sum(), raw)
    assert (slope > 0).all()


def test_what_is_beside_a_large_bound_stays_off_it() -> None:
    constraint = from_distribution(constraints.greater_than(1e6))
    value = constraint.project(torch.tensor([0.0, 1e6, 2e6]))
    assert (value > 1e6).all()
    torch.testing.assert_close(value, torch.tensor([1e6, 1e6, 2e6]))


@pytest.mark.parametrize("given", [constraints.positive_definite, constraints.positive_semidefinite], ids=str)
def test_a_singular_matrix_is_on_the_edge_and_an_indefinite_one_outside(given: constraints.Constraint) -> None:
    constraint = from_distribution(given, strict=True)
    constraint.right_inverse(torch.eye(2))
    singular = torch.diag(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(constraint(constraint.right_inverse(singular)), singular, rtol=0, atol=2e-6)
    with pytest.raises(ConstraintError):
        constraint.right_inverse(torch.diag(torch.tensor([1.0, -1e-4])))


def test_rows_near_to_the_edge_keep_their_digits_where_torchs_map_loses_them() -> None:
    L = torch.tensor([[1.0, 0.0], [1.0, 1e-6]])  # its row has length 1 in float32
    constraint = from_distribution(constraints.corr_cholesky)
    ours = constraint(constraint.right_inverse(L))
    theirs = transforms.CorrCholeskyTransform()
    torch.testing.assert_close(ours, L, rtol=1e-5, atol=0)
    assert not torch.allclose(theirs(theirs.inv(L)), L, rtol=0.5, atol=0)


def nearest_row(v: Tensor) -> Tensor:
    """By looking around the circle of unit vectors whose second entry is not negative."""
    angle = torch.linspace(0, torch.pi, 200_001, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    return circle[(circle @ v).argmax()]


@pytest.mark.parametrize("row", [(0.3, 0.4), (2.0, -1.0), (-0.5, -3.0), (0.0, 2.0)])
def test_the_nearest_row_of_a_cholesky_factor_of_correlations(row: tuple[float, float]) -> None:
    v = torch.tensor(row, dtype=torch.float64)
    projected = from_distribution(constraints.corr_cholesky).project(torch.stack([-v.flip(0), v]))
    assert torch.equal(projected[0], torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(projected[1], nearest_row(v), rtol=0, atol=2e-5)


def test_only_the_piece_that_is_outside_moves() -> None:
    pieces = constraints.stack([constraints.simplex, constraints.independent(constraints.unit_interval, 1)], dim=0)
    constraint = from_distribution(pieces)
    inside = torch.tensor([0.25, 0.25, 0.5])
    constraint.right_inverse(torch.stack([inside, inside]))
    with pytest.warns(ProjectionWarning):
        raw = constraint.right_inverse(torch.stack([inside, torch.tensor([0.1, 0.2, 3.0])]))
    value = constraint(raw)
    torch.testing.assert_close(value, torch.tensor([[0.25, 0.25, 0.5], [0.1, 0.2, 1.0]]))
    assert constraint.distance == 2.0
    assert torch.equal(constraint.residual(torch.stack([inside, 3 * inside])), torch.tensor([0.0, 0.5]))


def test_a_dimension_of_pieces_in_the_middle_of_a_point_does_not_join_them() -> None:
    columns = from_distribution(constraints.stack([constraints.simplex, constraints.real_vector], dim=1))
    first = torch.tensor([0.5, 0.5, 3.0])
    residual = columns.residual(torch.stack([first, 9 * first], 1))
    nearest = torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(residual, torch.stack([torch.dist(first, nearest), torch.tensor(0.0)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bound", [0.1, 0.3, -0.7])
def test_a_bound_that_half_precision_cannot_write_down_is_a_value(bound: float, dtype: torch.dtype) -> None:
    for given in (constraints.greater_than(bound), constraints.less_than(bound)):
        constraint = from_distribution(given, strict=True)
        constraint.right_inverse(constraint.sample((3,), dtype=dtype))
        value = torch.full((3,), bound, dtype=dtype)
        assert torch.equal(constraint(constraint.right_inverse(value)), value)


def test_an_entry_above_the_diagonal_is_not_overlooked_however_small() -> None:
    constraint = from_distribution(constraints.corr_cholesky, strict=True)
    constraint.right_inverse(torch.eye(2))
    with pytest.raises(ConstraintError):
        constraint.right_inverse(torch.tensor([[1.0, 1e-12], [0.0, 1.0]]))


def test_an_event_of_several_numbers_moves_as_one_point() -> None:
    constraint = from_distribution(constraints.independent(constraints.positive, 1))
    assert constraint.residual(torch.tensor([[-3.0, -4.0], [1.0, 2.0]])).tolist() == [5.0, 0.0]


def test_bounds_follow_the_weight_from_device_to_device_and_come_back_from_meta() -> None:
    given = constraints.interval(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    layer = nn.ParameterDict({"rate": torch.tensor([0.5, 2.0])})
    register_parametrization(layer, "rate", from_distribution(given))
    assert layer.to("meta").rate.is_meta
    layer.to_empty(device="cpu")
    layer.rate = torch.tensor([0.25, 2.5])
    torch.testing.assert_close(layer.rate, torch.tensor([0.25, 2.5]))
    assert torch.equal(given.lower_bound, torch.tensor([0.0, 1.0]))
    assert layer.half().rate.dtype == torch.float16
    constraint = from_distribution(given)
    assert constraint.project(torch.empty(2, device="meta")).is_meta


def test_the_scale_of_a_variational_layer_is_trained_and_stays_positive() -> None:
    posterior = nn.ParameterDict({"loc": torch.zeros(3), "scale": torch.full((3,), 0.1)})
    register_parametrization(posterior, "scale", from_distribution(Normal.arg_constraints["scale"]))
    optimizer = torch.optim.AdamW(posterior.parameters(), lr=0.3)
    for _ in range(20):
        optimizer.zero_grad()
        q = Normal(posterior.loc, posterior.scale)
        torch.distributions.kl_divergence(q, Normal(0.0, 1.0)).sum().backward()
        optimizer.step()
    assert ((posterior.scale > 0.3) & (posterior.scale < 3)).all()


def test_the_support_of_a_distribution_is_a_constraint() -> None:
    a = torch.tensor([2.0, 3.0])
    for law, value in ((Uniform(torch.zeros(2), a), [-1.0, 9.0]), (Beta(a, a), [-1.0, 9.0])):
        projected = from_distribution(law.support).project(torch.tensor(value))
        assert law.support.check(projected).all()
        assert torch.isfinite(law.log_prob(projected.clamp(1e-3, 1 - 1e-3))).all()


def test_a_simplex_can_be_scaled_like_the_class() -> None:
    value = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for inner in (from_distribution(constraints.simplex), Simplex()):
        s, *_ = Scaled(inner).right_inverse(value)
        torch.testing.assert_close(s, torch.tensor(6.0, dtype=torch.float64))


class AboveTwo(constraints.Constraint):
    """What a library would define for itself."""

    def check(self, value: Tensor) -> Tensor:
        return value > 2


def test_a_constraint_that_a_library_registers_works() -> None:
    two = torch.tensor(2.0, dtype=torch.float64)
    transform_to.register(AboveTwo)(
        lambda _: transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(two, 1)])
    )
    try:
        constraint = from_distribution(AboveTwo())
        layer = nn.ParameterDict({"x": torch.tensor([-1.0, 5.0, 2.0], dtype=torch.float64)})
        register_parametrization(layer, "x", constraint)
        torch.testing.assert_close(layer.x[1], torch.tensor(5.0, dtype=torch.float64))
        assert (layer.x > 2).all()
        assert (constraint.dof((3,)), str(constraint)) == (3, "from_distribution(boveTwo())")  # torch drops one letter
        with pytest.warns(ProjectionWarning):
            layer.x = torch.tensor([1.0, 3.0, 4.0], dtype=torch.float64)
    finally:
        del transform_to._registry[AboveTwo]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (constraints.interval, TypeError, r"got the class Interval; give its arguments, Interval\(\.\.\.\)"),
        (constraints.dependent, ValueError, "depends on the parameters"),
        (Uniform.support, ValueError, "take it from an instance"),
        (Normal(0.0, 1.0), TypeError, "got a distribution, Normal; give its support"),
        ("positive", TypeError, "got 'positive'; give constraints.positive"),
        (constraints.boolean, ValueError, "Cannot transform _Boolean constraints"),
        (constraints.integer_interval(0, 3), ValueError, "Cannot transform _IntegerInterval"),
        (constraints.independent(constraints.boolean, 1), ValueError, "Cannot transform _Boolean"),
        (constraints.symmetric, ValueError, "Cannot transform _Symmetric"),
        (constraints.interval(2.0, 1.0), ValueError, "lower below upper, got 2.0 and 1.0"),
        (constraints.greater_than(-torch.inf), ValueError, "finite bounds, got -inf"),
        (constraints.stack([constraints.corr_cholesky]), ValueError, "keep such a piece in a tensor of its own"),
    ],
    ids=str,
)
def test_a_mistake_is_named_in_words(wrong: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        from_distribution(wrong)


@pytest.mark.parametrize(
    ("given", "value", "words"),
    [
        (constraints.simplex, torch.zeros(3, 0), "vectors of one entry at least"),
        (constraints.simplex, torch.zeros(()), "tensors of 1 dimensions at least"),
        (constraints.corr_cholesky, torch.zeros(0, 0), "one entry at least"),
        (constraints.lower_cholesky, torch.zeros(3, 2), "square matrices"),
        (constraints.positive_definite, torch.zeros(3), "square matrices"),
        (constraints.positive, torch.zeros(3, dtype=torch.complex64), "expects real numbers"),
        (constraints.greater_than(torch.zeros(2)), torch.zeros(3), "can be broadcast to, got shape"),
        (constraints.cat([constraints.positive], dim=-1, lengths=[2]), torch.zeros(3), "of size 2 along dimension -1"),
        (constraints.stack([constraints.positive], dim=2), torch.zeros(3), "with a dimension 2"),
        (constraints.independent(constraints.real, 2), torch.zeros(3), "tensors of 2 dimensions at least"),
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit_is_refused_in_words(
    given: constraints.Constraint, value: Tensor, words: str
) -> None:
    constraint = from_distribution(given)
    with pytest.raises(ValueError, match=words):
        constraint.right_inverse(value)
    assert not constraint.learned
    with pytest.raises(ValueError, match=words):
        constraint.project(value)
