"""Rows 28 and 37: models that are wrapped for a cluster."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
import torch.distributed
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.complaints.layers import doubled, original
from tests.complaints.registry import FIXED, PARAFORM, Engine, complaint, wrong
from tests.parametrize.cases import Double


@pytest.fixture
def _process_group() -> Iterator[None]:
    """One process that stands for a cluster; the backend without a network is enough to wrap a model."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
@complaint(
    37,
    "pytorch#113415",
    symptom="a parametrized model in DistributedDataParallel cannot be compiled",
    on_torch=FIXED,
)
def test_pytorch_113415_a_distributed_parametrized_model_can_be_compiled(engine: Engine) -> None:
    torch._dynamo.reset()
    layer = engine.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1)).eval()
    distributed, x = DistributedDataParallel(layer), torch.ones(1, 3, 2, 2)
    assert torch.allclose(torch.compile(distributed, backend="eager")(x), layer(x))


@pytest.mark.usefixtures("_process_group")
@complaint(
    28,
    "minLoRA#3",
    symptom="nobody says whether a parametrized layer can be sharded by fully_shard",
    on_torch=FIXED,
    ours="works: first register, then shard",
)
def test_minlora_3_a_parametrized_layer_can_be_sharded(engine: Engine) -> None:
    layer, x = doubled(engine), torch.ones(1, 3)
    expected = layer(x)
    fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    output = layer(x)
    output.sum().backward()
    assert torch.allclose(output, expected)
    assert original(layer).grad is not None


@pytest.mark.usefixtures("_process_group")
@complaint(
    28,
    symptom="a sharded model with the usual parametrizations cannot be trained and saved",
    on_torch=FIXED,
)
def test_a_model_with_the_usual_parametrizations_is_sharded_trained_and_saved(engine: Engine) -> None:
    usual = (engine.parametrizations.orthogonal, engine.parametrizations.weight_norm)
    model = nn.Sequential(*(parametrize(nn.Linear(3, 3)) for parametrize in usual), doubled(engine))
    keys = list(model.state_dict())
    for module in (*model, model):
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    before = model(torch.ones(1, 3)).detach()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    assert model(torch.ones(1, 3)).square().sum() < before.square().sum()
    assert list(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))) == keys


@pytest.mark.usefixtures("_process_group")
@complaint(
    28,
    "pytorch#114299",
    symptom="registering on a sharded model is accepted, and the next forward pass fails on mixed tensors",
    on_torch=wrong("it was accepted"),
    ours="refused, in words that name the order: first register, then shard",
)
def test_pytorch_114299_registering_on_a_sharded_model_is_refused_with_the_right_order(engine: Engine) -> None:
    model, x = nn.Sequential(nn.Linear(3, 3)), torch.ones(1, 3)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    expected = model(x)
    with contextlib.suppress(RuntimeError):
        engine.parametrize.register_parametrization(model[0], "weight", Double())
        raise AssertionError("it was accepted")
    assert torch.equal(model(x), expected)


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize("name", ["orthogonal", "weight_norm", "spectral_norm"])
def test_the_refusal_on_a_sharded_model_names_the_order(name: str) -> None:
    sharded, model = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(doubled(PARAFORM))
    for each in (sharded, model):
        fully_shard(each, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(RuntimeError, match=r"Linear is sharded by FSDP .* first, then shard the model"):
        getattr(PARAFORM.parametrizations, name)(sharded[0])
    with pytest.raises(RuntimeError, match=r"ParametrizedLinear is sharded by FSDP .* first, then shard the model"):
        PARAFORM.parametrize.remove_parametrizations(model[0], "weight")
    with pytest.raises(RuntimeError, match=r"Linear is sharded by FSDP .* first, then shard the model"):
        PARAFORM.parametrize.transfer_parametrizations_and_params(doubled(PARAFORM), sharded[0])
    for each in (sharded, model):
        each(torch.ones(1, 3)).sum().backward()
