"""What is special about bounded matrices: what they cost, and that transforms, compilers and checkpoints take them."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from paraform import maps, parametrize
from paraform.constraints import SpectralNorm, Symmetric
from paraform.maps import spectral
from paraform.parametrize import register_parametrization
from tests.constraints.sets import ENGINES


class Calls(TorchDispatchMode):
    """Counts singular value decompositions; remembers the sizes of the largest result and of the eigenproblem."""

    decompositions = 0
    largest_decomposed = 0
    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.decompositions += "svd" in str(function)
        if "eigh" in str(function):
            self.largest_decomposed = max(self.largest_decomposed, args[0].shape[-1])
        sizes = [out.numel() for out in torch.utils._pytree.tree_leaves(result) if isinstance(out, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize(("size", "decompositions"), [(0.1, 0), (10.0, 1)])
def test_a_decomposition_is_made_only_to_project_and_once(size: float, decompositions: int) -> None:
    layer = nn.Linear(20, 30)
    nn.init.orthogonal_(layer.weight, gain=size)
    with Calls() as calls:
        register_parametrization(layer, "weight", SpectralNorm())
    assert calls.decompositions == decompositions


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (2, 7, 7)], ids=str)
def test_the_bound_decides_who_is_within(shape: tuple) -> None:
    W = torch.randn(shape)
    sigma = torch.linalg.matrix_norm(W, ord=2)
    W = W / sigma[..., None, None]
    assert maps.is_within(W, 1 + 1e-5).all()
    assert not maps.is_within(W, 1 - 1e-5).any()
    for huge in (1e30, torch.inf):
        assert not maps.is_within(huge * W, 1.0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_within_the_bound_is_kept_to_the_bit_in_both_modes(dtype: torch.dtype) -> None:
    constraint = SpectralNorm(0.7, strict=True)
    for _ in range(3):
        value = constraint.sample((6, 4), dtype=dtype)
        raw = constraint.right_inverse(value)
        assert torch.equal(constraint(raw), value)
        assert torch.equal(constraint.eval()(raw), value)


def test_a_wide_sample_costs_what_a_tall_one_costs() -> None:
    with Calls() as wide:
        SpectralNorm().sample((2, 300))
    with Calls() as tall:
        SpectralNorm().sample((300, 2))
    assert wide.numel == tall.numel


MOVES = {
    "replaced at random": lambda W: 3 * torch.randn_like(W),
    "a rank-one jump": lambda W: W + 50 * torch.outer(torch.randn(W.shape[0]), torch.randn(W.shape[1])).to(W),
    "a jump in one entry": lambda W: W.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(1e4).to(W)),
    "to equal singular values": lambda W: 5 * maps.polar(W),
    "to a Hadamard matrix": lambda W: torch.tensor(scipy.linalg.hadamard(512)[: W.shape[0], : W.shape[1]]).to(W),
    "to a cosine transform": lambda W: torch.tensor(scipy.fft.dct(3 * np.eye(*W.shape), axis=0)).to(W),
    "to a diagonal matrix": lambda W: torch.diag_embed(torch.rand(max(W.shape)).to(W) + 1)[: W.shape[0], : W.shape[1]],
    "to almost nothing, then to a huge size": lambda W: 1e15 * torch.randn_like(W),
}
SIZES = [(40, 60), (256, 200), (7, 1), (1, 300)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_bound_holds_at_the_first_read_after_any_move(shape: tuple, exact: bool, mode: str) -> None:
    layer = register_parametrization(nn.Linear(*shape[::-1]), "weight", SpectralNorm(exact=exact))
    layer.train(mode == "train")
    raw = layer.parametrizations.weight.original
    allowed = 1e-5 if exact or min(shape) <= 128 else 0.005
    for move in MOVES.values():
        with torch.no_grad():
            raw.copy_(move(raw))
        sigma = float(torch.linalg.matrix_norm(layer.weight.detach().double(), ord=2))
        outside = float(torch.linalg.matrix_norm(raw.detach().double(), ord=2)) > 1
        assert 1 - 1e-5 < sigma < 1 + allowed if outside else sigma <= 1


def test_the_bound_holds_while_an_adversary_drives_the_direction_that_the_read_did_not_see() -> None:
    layer = register_parametrization(nn.Linear(30, 40), "weight", SpectralNorm())
    raw = layer.parametrizations.weight.original
    for _ in range(30):
        value = layer.weight
        U, S, Vh = torch.linalg.svd(value.detach())
        assert S[0] < 1 + 1e-5
        with torch.no_grad():
            raw += 2 * torch.outer(U[:, 1], Vh[1])


SPECTRA = {
    "even": lambda s: s,
    "crowded at the top": lambda s: torch.cos(s * torch.pi / 2),
    "a spike on a crowd": lambda s: torch.cat([torch.tensor([1.01]).to(s), torch.cos(s * torch.pi / 2)[1:]]),
    "two equal spikes": lambda s: torch.cat([torch.ones(2).to(s), 0.5 * s[2:]]),
}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_a_search_misses_less_than_it_says(spectrum: Callable[[Tensor], Tensor]) -> None:
    singular = spectrum(torch.linspace(0, 1, 300, dtype=torch.float64))
    U, V = (maps.haar((300, 300), dtype=torch.float64) for _ in "UV")
    W = (10 * (U * singular) @ V).float()
    sigma = torch.linalg.matrix_norm(SpectralNorm()(W).double(), ord=2)
    assert 1 - 1e-5 < sigma < 1.005


@pytest.mark.parametrize("top", [1.02, 1.2, 2.0, 10.0])
def test_a_matrix_that_is_built_to_be_orthogonal_to_the_start_is_found_in_float32_and_by_decomposition(
    top: float,
) -> None:
    start = spectral.irregular_rows(spectral._BLOCK, torch.zeros(200, 200, dtype=torch.float64))
    hidden = torch.linalg.qr(torch.cat([start.mT, torch.randn(200, 1, dtype=torch.float64)], -1)).Q[:, -1:]
    assert (start @ hidden).abs().max() < 1e-13
    V = torch.linalg.qr(torch.cat([hidden, torch.randn(200, 199, dtype=torch.float64)], -1)).Q
    singular = torch.cat([torch.tensor([top]).double(), torch.linspace(1, 0, 199, dtype=torch.float64)])
    W = 3 * maps.haar((200, 200), dtype=torch.float64) * singular @ V.mT
    assert torch.linalg.matrix_norm(SpectralNorm()(W.float()).double(), ord=2) < 1.005
    assert torch.linalg.matrix_norm(SpectralNorm(exact=True)(W), ord=2) < 1 + 1e-10


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
def test_outside_derivatives_of_every_order_are_those_of_the_singular_value(shape: tuple, dtype: torch.dtype) -> None:
    raw = (3 * torch.randn(shape, dtype=dtype)).requires_grad_()
    assert torch.autograd.gradcheck(SpectralNorm(), raw)
    assert torch.autograd.gradgradcheck(SpectralNorm(), raw)


@pytest.mark.parametrize("raw", [torch.zeros(3, 3), 2 * torch.eye(3), 2 * torch.eye(150), 5 * torch.ones(3, 2)])
def test_first_and_second_derivatives_are_finite_where_singular_values_are_equal(raw: Tensor) -> None:
    raw = raw.clone().requires_grad_()
    (first,) = torch.autograd.grad(SpectralNorm()(raw).pow(3).sum(), raw, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), raw)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


def test_what_is_not_finite_stays_and_does_not_touch_its_neighbours() -> None:
    raw = 3 * torch.randn(3, 4, 4)
    bad = raw.index_put((torch.tensor(1), torch.tensor(0), torch.tensor(0)), torch.tensor(torch.nan))
    value = SpectralNorm()(bad)
    assert torch.equal(value[[0, 2]], SpectralNorm()(raw)[[0, 2]])
    assert value[1].isnan().any()


@ENGINES
def test_a_read_changes_nothing_and_two_reads_are_equal(engine: object) -> None:
    layer = engine.register_parametrization(nn.Linear(4, 3), "weight", SpectralNorm(0.5))
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_(std=5)
    before = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    assert torch.equal(layer.weight, layer.weight)
    assert torch.equal(layer.weight, layer.eval().weight)
    torch.testing.assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)
    assert list(layer.buffers()) == []


def far(engine: object) -> tuple[nn.Linear, dict[str, Tensor]]:
    layer = engine.register_parametrization(nn.Linear(4, 3).double(), "weight", SpectralNorm(0.5))
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    return layer, {name: parameter.detach() for name, parameter in layer.named_parameters()}


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch.func's own, at the first jvp
@ENGINES
def test_transforms_take_a_layer_in_training_mode(engine: object) -> None:
    layer, parameters = far(engine)
    x = torch.randn(5, 4, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, x).square().sum()

    loss(dict(layer.named_parameters()), x).backward()
    found = grad(loss)(parameters, x)
    each = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    tangents = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}
    _, along = jvp(lambda parameters: loss(parameters, x), (parameters,), (tangents,))
    curvature = hessian(loss)(parameters, x)
    for name, leaf in layer.named_parameters():
        torch.testing.assert_close(found[name], leaf.grad)
        torch.testing.assert_close(each[name].sum(0), leaf.grad)
        assert torch.isfinite(curvature[name][name]).all()
    torch.testing.assert_close(
        along, sum((leaf.grad * tangents[name]).sum() for name, leaf in layer.named_parameters())
    )


def test_an_ensemble_under_vmap_is_its_layers_one_by_one() -> None:
    layers = [far(parametrize)[0] for _ in range(3)]
    x = torch.randn(2, 4, dtype=torch.float64)
    tensors = torch.func.stack_module_state(layers)
    together = vmap(lambda p, b: functional_call(layers[0], (p, b), x))(*tensors)
    torch.testing.assert_close(together, torch.stack([layer(x) for layer in layers]))


@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 150, 140)], ids=str)
def test_vmap_over_raw_tensors_is_a_batch(shape: tuple) -> None:
    raws = 3 * torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(vmap(SpectralNorm(0.5))(raws), SpectralNorm(0.5)(raws))


@pytest.mark.parametrize("n", [4, 150])
def test_compiled_and_exported_layers_compute_the_same(n: int) -> None:
    layer = register_parametrization(nn.Linear(n, n), "weight", SpectralNorm(0.5))
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    x = torch.randn(2, n)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


@ENGINES
def test_a_checkpoint_of_torch_loads_strictly_and_leaves_no_vectors(engine: object) -> None:
    theirs = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3), n_power_iterations=100)).eval()
    ours = nn.Sequential(engine.register_parametrization(nn.Linear(4, 3), "weight", SpectralNorm()))
    state = theirs.state_dict()
    assert "0.parametrizations.weight.0._u" in state
    ours.load_state_dict(state, strict=True)
    raw = state["0.parametrizations.weight.original"]
    of_the_raw_tensor = raw / torch.linalg.matrix_norm(raw, ord=2).clamp_min(1)
    torch.testing.assert_close(ours[0].weight, theirs[0].weight if engine is parametrize else of_the_raw_tensor)
    assert not any("_u" in key for key in ours.state_dict())
    ours.load_state_dict(ours.state_dict(), strict=True)


def test_it_stands_behind_another_parametrization_and_trains_after_a_read_under_inference_mode() -> None:
    layer = register_parametrization(nn.Linear(4, 4), "weight", Symmetric())
    register_parametrization(layer, "weight", SpectralNorm(0.3), unsafe=True)
    with torch.inference_mode():
        _ = layer.weight
    layer.weight.sum().backward()
    assert torch.isfinite(layer.parametrizations.weight.original.grad).all()
    assert torch.linalg.matrix_norm(layer.weight, ord=2) < 0.3 + 1e-5


def test_the_cost_of_a_search_does_not_hold_a_decomposition_of_the_whole() -> None:
    with Calls() as calls:
        SpectralNorm()(torch.randn(300, 300))
    assert calls.decompositions == 0
    assert calls.largest_decomposed == 128
