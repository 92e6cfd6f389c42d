"""spectral_norm, held against the SVD and against torch.nn.utils.parametrizations.spectral_norm."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jvp, stack_module_state, vmap
from torch.nn.utils import parametrizations as torchs

from paraform import parametrizations as ours
from paraform.parametrizations import spectral_norm

SHAPES = [(5,), (6, 4), (3, 5), (3, 4, 2, 2)]
KINDS = [
    (shape, dim, dtype)
    for shape in SHAPES
    for dim in range(-len(shape), len(shape))
    for dtype in (torch.float64, torch.complex128)
]


class Layer(nn.Module):
    def __init__(self, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, dtype=dtype))

    def forward(self) -> torch.Tensor:
        return self.weight


def largest(weight: torch.Tensor, dim: int = 0) -> torch.Tensor:
    return torch.linalg.matrix_norm(weight.detach().movedim(dim, 0).flatten(1), ord=2)


def value_and_gradient(layer: nn.Module, cotangent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value = layer()
    return value.detach(), torch.autograd.grad(value, layer.parametrizations.weight.original, cotangent)[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "dim", "dtype"), KINDS)
def test_value_gradient_and_state_are_those_of_torch(shape, dim, dtype, training):
    cotangent = torch.randn(shape, dtype=dtype)
    for writer, reader in [(ours, torchs), (torchs, ours)]:
        written, read = (
            room.spectral_norm(Layer(*shape, dtype=dtype), n_power_iterations=2, dim=dim).train(training)
            for room in (writer, reader)
        )
        with torch.no_grad():
            written.parametrizations.weight.original.add_(torch.randn(shape, dtype=dtype))
        read.load_state_dict(written.state_dict(), strict=True)
        torch.testing.assert_close(value_and_gradient(read, cotangent), value_and_gradient(written, cotangent))
        torch.testing.assert_close(dict(read.state_dict()), dict(written.state_dict()))


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3)], ids=str)
def test_the_largest_singular_value_is_one_after_enough_reads(layer):
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    layer = spectral_norm(copy.deepcopy(layer), n_power_iterations=200)
    torch.testing.assert_close(largest(layer.weight, dim), torch.tensor(1.0), rtol=1e-5, atol=0)
    assert layer.parametrizations.weight[0].dim == dim


def test_only_forward_passes_in_training_mode_move_the_singular_vectors():
    layer = spectral_norm(Layer(6, 4))
    vectors = layer.parametrizations.weight[0]
    layer.eval()
    nn.init.normal_(layer.parametrizations.weight.original)
    before = vectors._u.clone()
    assert torch.equal(layer(), layer())
    assert torch.equal(vectors._u, before)
    layer.train()
    held = vectors._u
    assert torch.equal(layer.weight, layer.weight)
    assert torch.equal(vectors._u, before)
    layer()
    assert not torch.equal(vectors._u, before)
    assert vectors._u is held  # in place, for DataParallel's replicas


def test_two_forward_passes_can_be_followed_by_one_backward_pass():
    layer = spectral_norm(nn.Linear(6, 4))
    layer.eval()
    first = layer.weight
    layer.train()
    (first - layer.weight * layer.weight).sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


def test_an_assigned_value_has_fresh_singular_vectors_in_eval_mode():
    layer = spectral_norm(Layer(6, 4)).eval()
    layer.weight = torch.diag(torch.tensor([0.01, 0.01, 0.01, 7.0], dtype=torch.float64)).repeat(2, 1)[:6]
    torch.testing.assert_close(largest(layer.weight), torch.tensor(1.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_singular_vectors_that_were_averaged_give_the_right_scale():
    layer = spectral_norm(Layer(6, 4), n_power_iterations=50).eval()
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight[0]._u.mul_(0.5)
        layer.parametrizations.weight[0]._v.mul_(0.1)
    torch.testing.assert_close(layer.weight.detach(), before)


def test_a_weight_of_zeros_stays_zero_and_recovers():
    layer = Layer(6, 4)
    nn.init.zeros_(layer.weight)
    spectral_norm(layer, n_power_iterations=50)
    assert torch.equal(layer.weight, torch.zeros(6, 4, dtype=torch.float64))
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    torch.testing.assert_close(largest(layer.weight), torch.tensor(1.0, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("room", [ours, torchs])
def test_misuse_is_refused_as_in_torch(room):
    for dim in (2, -3):
        with pytest.raises(IndexError, match=rf"{dim}"):
            room.spectral_norm(nn.Linear(3, 3), dim=dim)
    with pytest.raises(ValueError, match="n_power_iterations"):
        room.spectral_norm(nn.Linear(3, 3), n_power_iterations=0)
    with pytest.raises(TypeError, match="integer"):
        room.spectral_norm(nn.Linear(3, 3), n_power_iterations=1.5)
    with pytest.raises(TypeError):
        room.spectral_norm(nn.Linear(3, 3), dim=1.0)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 4), lambda: nn.ConvTranspose1d(3, 4, 2)])
def test_old_checkpoints_load_also_inside_a_model_and_after_a_pickle(make):
    old = nn.Sequential(nn.utils.spectral_norm(make()))
    old(torch.randn(2, 3, 3))
    old.eval()(torch.randn(2, 3, 3))  # the old hook computes the weight in a forward pass
    new = nn.Sequential(spectral_norm(make())).eval()
    for model in (new, pickle.loads(pickle.dumps(new)), copy.deepcopy(new)):
        model.load_state_dict(old.state_dict(), strict=True)
        torch.testing.assert_close(model[0].weight, old[0].weight)


def test_two_normalized_tensors_of_a_module_take_their_own_old_keys():
    old = nn.Bilinear(2, 2, 3)
    nn.utils.spectral_norm(old)
    new = spectral_norm(spectral_norm(nn.Bilinear(2, 2, 3)), "bias")
    state = {**old.state_dict(), "parametrizations.bias.original": old.bias.detach()}
    del state["bias"]
    new.load_state_dict(state, strict=True)
    assert torch.equal(new.parametrizations.weight[0]._u, old.weight_u)


def differentiated(layer: nn.Module):
    """A function of the layer's parameters, in training mode, and these."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    return lambda p, x=x: functional_call(layer, p, x).sin().sum(), dict(layer.named_parameters()), x


TRANSFORMS = {
    "grad": lambda f, p, x: grad(f)(p),
    "jvp": lambda f, p, x: jvp(f, (p,), (p,)),
    "grad of each sample": lambda f, p, x: vmap(grad(f), (None, 0))(p, x),
    "hessian": lambda f, p, x: hessian(f)(p),
    "jacfwd twice": lambda f, p, x: jacfwd(jacfwd(f))(p),
}


# torch scripts decompositions of its own, with a warning, when forward-mode differentiation is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_function_transforms_move_the_vectors_and_differentiate_with_them_as_constants(transform):
    layer = spectral_norm(nn.Linear(4, 3).double(), n_power_iterations=500)
    vectors = copy.deepcopy(layer.parametrizations.weight[0])
    nn.init.normal_(layer.parametrizations.weight.original)
    inside = transform(*differentiated(layer))
    assert not torch.equal(layer.parametrizations.weight[0]._u, vectors._u)
    # By now the vectors are exact, and a layer that does not move them differentiates with them as constants too.
    torch.testing.assert_close(inside, transform(*differentiated(layer.eval())))


def test_function_transforms_under_compile_move_the_vectors():
    layer = spectral_norm(nn.Linear(4, 3).double())
    f, p, _ = differentiated(layer)
    twin = copy.deepcopy(layer)
    g, q, _ = differentiated(twin)
    compiled = torch.compile(lambda p: grad(f)(p), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(p), grad(g)(q))
    assert torch.equal(layer.parametrizations.weight[0]._u, twin.parametrizations.weight[0]._u)


def test_an_ensemble_of_layers_runs_under_vmap_and_each_moves_its_own_vectors():
    layers = [spectral_norm(nn.Linear(4, 3).double()) for _ in range(3)]
    x = torch.randn(2, 4, dtype=torch.float64)
    tensors = stack_module_state(layers)
    together = vmap(lambda p, b: functional_call(layers[0], (p, b), x))(*tensors)
    torch.testing.assert_close(together, torch.stack([layer(x) for layer in layers]))
    torch.testing.assert_close(
        tensors[1]["parametrizations.weight.0._u"],
        torch.stack([layer.parametrizations.weight[0]._u for layer in layers]),
    )
