"""Row 4: a value that cached() keeps although it was computed in another mode, transform or thread."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.func import functional_call
from torch.utils.checkpoint import CheckpointError, checkpoint

from tests.complaints.layers import Square, doubled, original
from tests.complaints.registry import Engine, complaint, raises, wrong


@complaint(
    4,
    "pytorch#71062",
    symptom="under cached() a first read under no_grad leaves the weight without a gradient, the bias has one",
    on_torch=wrong("the weight got no gradient"),
)
def test_pytorch_71062_a_first_read_under_no_grad_does_not_cut_the_gradient_off(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    with engine.parametrize.cached():
        with torch.no_grad():
            layer(x)
        layer(x).sum().backward()
    assert layer.bias.grad is not None
    assert original(layer).grad is not None, "the weight got no gradient"


@complaint(
    4,
    symptom="under cached() a first read under inference_mode makes training fail",
    on_torch=raises(RuntimeError, "Inference tensors cannot be saved for backward"),
)
def test_a_first_read_under_inference_mode_does_not_stop_training(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3, requires_grad=True)
    with engine.parametrize.cached():
        with torch.inference_mode():
            layer(x)
        layer(x).sum().backward()
    assert original(layer).grad is not None


@complaint(
    4,
    symptom="under cached() a first read under autocast leaves its half precision to code outside of autocast",
    on_torch=wrong("the dtype is that of autocast"),
)
def test_a_first_read_under_autocast_does_not_reach_code_outside(engine: Engine) -> None:
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Square())
    with engine.parametrize.cached():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.weight.dtype == torch.bfloat16
        assert layer.weight.dtype == torch.float32, "the dtype is that of autocast"


@complaint(
    4,
    symptom="a thread that never entered cached() gets the values of one that did",
    on_torch=wrong("the thread got the value that another one keeps"),
)
def test_a_thread_that_did_not_enter_cached_computes_its_own_value(engine: Engine) -> None:
    layer = doubled(engine)
    with engine.parametrize.cached(), ThreadPoolExecutor(1) as pool:
        kept = layer.weight
        seen = pool.submit(lambda: layer.weight).result()
        assert seen is not kept, "the thread got the value that another one keeps"


@complaint(
    4,
    symptom="under cached() functional_call with other parameters computes with the module's own",
    on_torch=wrong("the given parameters were not used"),
)
def test_functional_call_under_cached_uses_the_given_parameters(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in layer.named_parameters()}
    with engine.parametrize.cached():
        layer(x)
        assert torch.equal(functional_call(layer, zeros, (x,)), torch.zeros(1, 3)), "the given parameters were not used"


@complaint(
    4,
    symptom="under cached() a transform leaves its dead tensor behind, and the next forward pass fails",
    on_torch=raises(RuntimeError, "Either your tensor may have escaped from inside a function being vmapped"),
)
def test_a_transform_under_cached_leaves_nothing_behind(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    stacked = {name: torch.stack([tensor, tensor]) for name, tensor in layer.named_parameters()}
    with engine.parametrize.cached():
        torch.vmap(lambda parameters: functional_call(layer, parameters, (x,)))(stacked)
        assert torch.equal(layer(x), nn.functional.linear(x, 2 * original(layer), layer.bias))


@complaint(
    4,
    symptom="under cached() torch.export leaves a fake tensor behind, and the next forward pass fails",
    on_torch=wrong("the weight is the fake tensor of the export"),
)
def test_export_under_cached_leaves_nothing_behind(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    with torch.no_grad(), engine.parametrize.cached():
        torch.export.export(layer, (x,), strict=False)
        assert not isinstance(layer.weight, FakeTensor), "the weight is the fake tensor of the export"


@complaint(
    4,
    symptom="under cached() reentrant checkpointing loses the gradient of all that reads the weight",
    on_torch=wrong("the weight got no gradient"),
)
def test_reentrant_checkpointing_under_cached_keeps_the_whole_gradient(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(layer(x)).sum(), original(layer))
    with engine.parametrize.cached():
        layer(checkpoint(layer, x, use_reentrant=True)).sum().backward()
    assert original(layer).grad is not None, "the weight got no gradient"
    assert torch.allclose(original(layer).grad, expected)


@complaint(
    4,
    symptom="non-reentrant checkpointing of a forward pass under cached() refuses the backward pass",
    on_torch=raises(
        CheckpointError, "torch.utils.checkpoint: Recomputed values for the following tensors have different metadata"
    ),
)
def test_checkpointing_under_cached_keeps_the_whole_gradient(engine: Engine) -> None:
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Square())
    x = torch.ones(1, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(layer(x)).sum(), original(layer))
    with engine.parametrize.cached():
        loss = checkpoint(lambda x: layer(layer(x)), x, use_reentrant=False).sum()
    loss.backward()
    assert torch.allclose(original(layer).grad, expected)


@complaint(
    4,
    symptom="a checkpointed region that reads a value from before it, under cached(), refuses the backward pass",
    on_torch=raises(
        CheckpointError, "torch.utils.checkpoint: Recomputed values for the following tensors have different metadata"
    ),
)
def test_checkpointing_after_a_read_under_cached_keeps_the_whole_gradient(engine: Engine) -> None:
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Square())
    x = torch.ones(1, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(layer(x)).sum(), original(layer))
    with engine.parametrize.cached():
        loss = checkpoint(layer, layer(x), use_reentrant=False).sum()
    loss.backward()
    assert torch.allclose(original(layer).grad, expected)
