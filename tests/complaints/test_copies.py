"""Rows 2, 7 and 30: a copy that is not independent of the module it was copied from."""

import copy
import gc
import weakref

import torch
from torch import nn

from tests.complaints.layers import doubled, original
from tests.complaints.registry import Engine, complaint, raises, wrong
from tests.parametrize.cases import Double


def with_zero_weight(layer: nn.Module) -> nn.Module:
    clone = copy.deepcopy(layer)
    with torch.no_grad():
        original(clone).zero_()
    return clone


@complaint(
    2,
    symptom="under cached() a copy (target, EMA, siamese) computes with the weight of the module it was copied from",
    on_torch=wrong("the copy computed with the other's weight"),
)
def test_a_copy_under_cached_computes_with_its_own_weight(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    target = with_zero_weight(layer)
    with engine.parametrize.cached():
        layer(x)
        assert torch.equal(target(x)[0], target.bias), "the copy computed with the other's weight"


@complaint(
    2,
    symptom="under cached() the gradient of a copy goes to the module it was copied from",
    on_torch=wrong("the copy got no gradient"),
)
def test_a_copy_under_cached_gets_its_own_gradient(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    sibling = copy.deepcopy(layer)
    with engine.parametrize.cached():
        _ = layer.weight
        sibling(x).sum().backward()
    assert original(sibling).grad is not None, "the copy got no gradient"
    assert original(layer).grad is None


@complaint(
    2,
    "pytorch#72041",
    symptom="under cached() a replica on another device gets the weight of the first device",
    on_torch=wrong("the replica's weight is on the other device"),
)
def test_pytorch_72041_a_replica_under_cached_reads_its_weight_on_its_own_device(engine: Engine) -> None:
    layer = doubled(engine)
    replica = copy.deepcopy(layer).to("meta")
    with engine.parametrize.cached():
        _ = layer.weight
        assert replica.weight.device.type == "meta", "the replica's weight is on the other device"


@complaint(
    7,
    symptom="removing the parametrizations of a copy, for an export, destroys the live model",
    on_torch=raises(AttributeError, "'ParametrizedLinear' object has no attribute 'weight'"),
)
def test_removing_on_a_copy_leaves_the_live_model_alone(engine: Engine) -> None:
    layer = doubled(engine)
    engine.parametrize.remove_parametrizations(copy.deepcopy(layer), "weight")
    assert torch.equal(layer.weight, 2 * original(layer))


@complaint(
    7,
    symptom="registering on another tensor of a copy breaks that tensor of the original module",
    on_torch=raises(KeyError, "'bias'"),
)
def test_registering_on_a_copy_leaves_the_live_model_alone(engine: Engine) -> None:
    layer = doubled(engine)
    bias = layer.bias
    engine.parametrize.register_parametrization(copy.deepcopy(layer), "bias", Double())
    assert layer.bias is bias


@complaint(
    30,
    symptom="the first module stays in memory as long as any copy of it lives",
    on_torch=wrong("the module is kept alive by its copy"),
)
def test_a_copy_does_not_keep_the_module_it_was_copied_from_alive(engine: Engine) -> None:
    layer = doubled(engine)
    first, clone = weakref.ref(layer), copy.deepcopy(layer)
    del layer
    gc.collect()
    assert clone.weight is not None
    assert first() is None, "the module is kept alive by its copy"


@complaint(
    30,
    symptom="a parametrized module that nobody uses stays in memory until the garbage collector runs",
    on_torch=wrong("the module is in a cycle of references"),
)
def test_a_parametrized_module_is_freed_with_its_last_reference(engine: Engine) -> None:
    layer = doubled(engine)
    gc.collect()
    gc.disable()
    try:
        last = weakref.ref(layer)
        del layer
        assert last() is None, "the module is in a cycle of references"
    finally:
        gc.enable()
