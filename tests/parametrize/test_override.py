"""functional_call and what stands in for a parametrized tensor."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paraform import parametrize
from tests.parametrize.cases import HOSTS, Double, Host, MatrixExp, Polar, Symmetric

on_hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.title)
CALLS = pytest.mark.parametrize("call", [torch.func.functional_call, parametrize.functional_call])


@on_hosts
@CALLS
@pytest.mark.parametrize("step", [Double, MatrixExp, Polar])
def test_the_plain_name_stands_in_and_gets_the_gradient(host: Host, call, step) -> None:  # type: ignore[no-untyped-def]
    module, plain, x = host.make(), host.make(), host.input()
    plain.load_state_dict(module.state_dict())
    parametrize.register_parametrization(module, host.name, step())
    before = host.tensor(module).detach().clone()
    W = torch.randn_like(before).requires_grad_()
    y = call(module, {host.name: W}, x)
    y = y[0] if isinstance(y, tuple) else y
    expected = torch.func.functional_call(plain, {host.name: W}, x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), W), torch.autograd.grad(expected.sum(), W))
    assert torch.equal(host.tensor(module), before)


def test_both_names_work_in_a_model_and_strict_takes_either() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    x, W = torch.randn(2, 3), torch.randn(3, 3)
    rest = {key: value for key, value in model.named_parameters() if not key.startswith("0.param")}
    plain = parametrize.functional_call(model, {**rest, "0.weight": W}, x, strict=True)
    torch.testing.assert_close(plain, model[1](x @ W.T + model[0].bias))
    raw = parametrize.functional_call(model, ({"0.parametrizations.weight.original": W}, rest), x, strict=True)
    symmetric = W.triu() + W.triu(1).T
    torch.testing.assert_close(raw, model[1](x @ symmetric.T + model[0].bias))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bias"], "Missing key.*'parametrizations.weight.original'"),
        (["bias", "weight", "wieght"], "Unexpected key.*'wieght'"),
        (["weight"], "Missing key.*'bias'"),
        (["weight", "bias", "parametrizations.weight.original"], "Unexpected key.*original"),
    ],
)
def test_strict_names_what_is_missing_and_what_is_unexpected(names: list[str], message: str) -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    with pytest.raises(RuntimeError, match=message):
        parametrize.functional_call(layer, {name: torch.ones(3, 3) for name in names}, torch.ones(1, 3), strict=True)


def test_a_stand_in_serves_every_owner_of_one_chain() -> None:
    first = parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", Double())
    second = parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", Double())
    second.parametrizations["weight"] = first.parametrizations["weight"]
    model = nn.Sequential(first, second)
    W, x = torch.randn(3, 3), torch.randn(2, 3)
    torch.testing.assert_close(parametrize.functional_call(model, {"0.weight": W}, x), x @ W.T @ W.T)


def test_an_exception_in_the_call_leaves_nothing_behind() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Double())
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="shape"):
        torch.func.functional_call(layer, {"weight": torch.ones(3, 3)}, torch.ones(1, 7))
    assert torch.equal(layer.weight, before)


def test_a_stand_in_is_used_under_cached_and_forgotten_after() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", Double())
    x = torch.ones(1, 3)
    with parametrize.cached():
        before = layer(x)
        assert torch.equal(torch.func.functional_call(layer, {"weight": torch.zeros(3, 3)}, x), torch.zeros(1, 3))
        assert torch.equal(layer(x), before)


def test_transforms_compiled_code_and_checkpoints_take_a_stand_in() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", MatrixExp())
    x, W = torch.randn(2, 3), torch.randn(3, 3)

    def loss(W: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": W}, x).square().sum()

    expected = 2 * (x @ W.T).T @ x
    torch.testing.assert_close(torch.func.grad(loss)(W), expected)
    batch = torch.vmap(torch.func.grad(loss))(torch.stack([W, 2 * W]))
    torch.testing.assert_close(batch, torch.stack([expected, 2 * expected]))
    leaf = W.clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(leaf), leaf)[0], expected
    )
    for reentrant in (True, False):
        leaf = W.clone().requires_grad_()
        checkpoint(loss, leaf, use_reentrant=reentrant).backward()
        torch.testing.assert_close(leaf.grad, expected)


def test_a_hypernetworks_output_cannot_be_assigned_where_its_gradient_would_be_lost() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Double())
    W = torch.ones(3, 3, requires_grad=True) * 2
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="functional_call"):
        layer.weight = W
    assert torch.equal(layer.weight, before)
    layer.weight = W.detach()
    assert torch.equal(layer.weight, W)
    with torch.no_grad():
        layer.weight = W / 2
    assert torch.equal(layer.weight, W / 2)


def test_a_loader_that_finds_the_place_of_a_stand_in_is_told_to_assign() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Double())
    layer._buffers["weight"] = torch.ones(3, 3)
    for read in (lambda: layer.weight, lambda: layer(torch.ones(1, 3))):
        with pytest.raises(RuntimeError, match=r"put into module\._buffers under 'weight' of ParametrizedLinear"):
            read()
    layer._buffers["weight"] = None
    layer.weight = torch.ones(3, 3)
    assert torch.equal(layer.weight, torch.ones(3, 3))


def test_a_stand_in_reaches_data_parallels_replicas_and_code_that_torch_compile_broke_up() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3, bias=False), "weight", Double())
    replica = layer._replicate_for_data_parallel()
    replica._buffers["weight"] = torch.zeros(3, 3)
    assert torch.equal(replica.weight, torch.zeros(3, 3))

    class Breaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return self.layer(x)

    model = Breaking()

    @torch.compile(backend="eager")
    def run(W: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"layer.weight": W}, torch.ones(1, 3)) + 1

    assert torch.equal(run(torch.zeros(3, 3)), torch.ones(1, 3))


@pytest.mark.parametrize("names", [["0.weight"], ["1.weight"]], ids=str)
def test_a_module_under_two_names_is_itself_again_after_the_call(names: list[str]) -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2, bias=False), "weight", Symmetric())
    model, before = nn.Sequential(layer, layer), layer.weight.detach().clone()
    W = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    y = parametrize.functional_call(model, dict.fromkeys(names, W), torch.ones(1, 2))
    assert torch.equal(y, torch.tensor([[2.0, 2.0]]))  # W W = 2 I
    assert torch.equal(layer.weight, before)
