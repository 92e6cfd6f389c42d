"""What knows plain PyTorch only takes a folded model, and gives the outputs that the constrained one gave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import paraform as pf
from paraform.model import fold
from tests.model.models import KINDS, Kind

FRAME = Path(torch.__file__).parents[1]
"""Where torch is installed, and with it what it needs."""

for_all_kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
torchscript = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
flat_weights = pytest.mark.filterwarnings(
    "ignore:The tensor attributes self.lstm._flat_weights:UserWarning"
)  # any LSTM


@pytest.fixture
def deployed(kind: Kind) -> tuple[nn.Module, Tensor, Tensor]:
    """A folded model, inputs, and what the constrained model made of them."""
    model, x = kind.constrained().eval(), kind.inputs()
    with torch.no_grad():
        y = model(x)
    return fold(model), x, y


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@for_all_kinds
@torchscript
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean:torch.jit.TracerWarning")  # any LSTM
def test_torchscript_compiles_it_and_loads_it_again(deployed: tuple[nn.Module, Tensor, Tensor], tmp_path: Path) -> None:
    model, x, y = deployed
    with torch.no_grad():  # in which an encoder takes its fast path, so that the trace and its check take the same
        for compiled in (torch.jit.script(model), torch.jit.trace(model, x)):
            compiled.save(tmp_path / "model.pt")
            loaded = torch.jit.load(tmp_path / "model.pt")
            assert_close(loaded(x), y)
            assert list(loaded.state_dict()) == list(model.state_dict())


@for_all_kinds
@flat_weights
def test_an_exported_program_has_plain_names_and_loads_again(
    deployed: tuple[nn.Module, Tensor, Tensor], tmp_path: Path
) -> None:
    model, x, y = deployed
    program = torch.export.export(model, (x,))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    assert set(loaded.state_dict) == set(model.state_dict())
    assert_close(loaded.module()(x), y)


@for_all_kinds
@flat_weights
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # the exporter's own
def test_onnx_runtime_gives_the_same_outputs(deployed: tuple[nn.Module, Tensor, Tensor], tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    model, x, y = deployed
    torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert not [tensor.name for tensor in graph.initializer if "parametrizations" in tensor.name]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), y, rtol=1e-4, atol=1e-5)  # another library's kernels


@for_all_kinds
@torchscript  # which the compiler imports
def test_it_is_compiled_without_a_break(deployed: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = deployed
    lstm = any(isinstance(module, nn.LSTM) for module in model.modules())  # which the compiler leaves to torch itself
    with torch.no_grad():
        assert_close(torch.compile(model, backend="aot_eager", fullgraph=not lstm)(x), y)


@for_all_kinds
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_dynamic_quantization_finds_its_layers_as_in_a_model_that_was_never_constrained(
    deployed: tuple[nn.Module, Tensor, Tensor], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantized(plain: nn.Module) -> nn.Module:
        return torch.ao.quantization.quantize_dynamic(plain, {nn.Linear, nn.LSTM})

    model, x, y = deployed
    plain = kind.make().eval()
    plain.load_state_dict(model.state_dict())
    result, expected = quantized(model), quantized(plain)
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)  # it does not know quantized layers
    kinds = [type(module) for module in result.modules()]
    assert kinds == [type(module) for module in expected.modules()]
    if str(kind) in ("stack", "tagger"):
        assert any(each.__module__.startswith("torch.ao.nn.quantized") for each in kinds)
    assert torch.equal(result(x), expected(x))
    assert (result(x) - y).abs().max() < 0.05 * y.abs().max()  # 8 bits a weight and an input


@for_all_kinds
def test_pruning_masks_the_weights_that_were_folded(deployed: tuple[nn.Module, Tensor, Tensor], kind: Kind) -> None:
    model, x, y = deployed
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            prune.identity(module, "weight")
    with torch.no_grad():
        assert_close(model(x), y)
    layers = [module for module in model.modules() if prune.is_pruned(module) and "weight_mask" in module._buffers]
    assert layers
    for layer in layers:
        weight = layer.weight_orig.detach().clone()
        prune.l1_unstructured(layer, "weight", amount=weight.numel() // 2)
        prune.remove(layer, "weight")
        kept = layer.weight != 0
        assert torch.equal(layer.weight[kept], weight[kept])
        assert weight[~kept].abs().max() <= weight[kept].abs().min()
    assert set(model.state_dict()) == set(kind.make().state_dict())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if str(kind) in ("attention", "encoder")], ids=str)
def test_the_fast_path_of_attention_is_taken_and_gives_the_same(
    deployed: tuple[nn.Module, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, y = deployed
    taken = []
    for name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd"):
        fast = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *args, fast=fast, **kwargs: (taken.append(1), fast(*args, **kwargs))[1])
    with torch.no_grad():
        assert_close(model(x), y)
    assert taken
    assert_close(model(x), y)  # with gradients recorded there is no fast path


READER = """
import sys
import torch

sys.modules["paraform"] = None  # an import of it would raise
for model, inputs, y in torch.load(sys.argv[1], weights_only=False):
    torch.testing.assert_close(model(*inputs), y, rtol=1e-5, atol=1e-6)
assert not [name for name in sys.modules if name.startswith("paraform.")]
print("the same outputs")
"""


def test_a_pickle_is_read_where_this_package_is_not_installed(tmp_path: Path) -> None:
    saved = []
    for kind in KINDS:
        model, x = kind.constrained().eval(), kind.inputs()
        if isinstance(kind.make, type):  # a class of these tests, which the reader does not know: a layer of torch's
            model = next(model.children())
        inputs = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)
        pf.cache_each_forward(model)
        with torch.no_grad():
            y = model(*inputs)
        saved.append((fold(model), inputs, y))
    torch.save(saved, tmp_path / "models.pt")
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "models.pt")],
        env={**os.environ, "PYTHONPATH": str(FRAME)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the same outputs\n", done.stderr
