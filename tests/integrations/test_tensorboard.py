"""The monitor's records in an event file, read back by TensorBoard itself."""

import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import paraform as pf
from paraform.integrations import tensorboard
from paraform.model.monitor import Monitor


def test_tensorboard_reads_each_number_at_its_step(tmp_path: Path) -> None:
    layer = pf.register_parametrization(nn.Linear(2, 2), "weight", pf.Symmetric())
    layer.weight = torch.diag(torch.tensor([4.0, -2.0]))
    pf.register_parametrization(layer, "bias", pf.Positive())
    monitor = Monitor(layer, every=2)
    with SummaryWriter(str(tmp_path)) as writer:
        for _ in range(4):
            record = monitor.step()
            if record is not None:
                tensorboard.write(writer, record)
    events = EventAccumulator(str(tmp_path)).Reload()
    expected = {"weight/residual", "weight/condition", "weight/raw_norm", "bias/residual", "bias/raw_norm"}
    assert set(events.Tags()["scalars"]) == expected
    scalars = [(event.step, event.value) for event in events.Scalars("weight/condition")]
    assert scalars == [(2, pytest.approx(2.0)), (4, pytest.approx(2.0))]
    assert events.Scalars("weight/raw_norm")[0].value == pytest.approx(math.sqrt(20))


def test_what_is_no_writer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected a torch\.utils\.tensorboard\.SummaryWriter .* pip install"):
        tensorboard.write([], {"step": 1, "tensors": {}})


@pytest.mark.parametrize(
    ("module", "hidden", "message"),
    [
        ("lightning", ["lightning", "pytorch_lightning"], "needs Lightning: pip install lightning"),
        ("transformers", ["transformers"], "needs transformers: pip install 'transformers[torch]'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str, hidden: list[str], message: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        monkeypatch.delitem(sys.modules, name)
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)  # Python's way to say that there is no such package
    monkeypatch.delitem(sys.modules, f"paraform.integrations.{module}", raising=False)
    with pytest.raises(ModuleNotFoundError) as error:
        importlib.import_module(f"paraform.integrations.{module}")
    assert str(error.value) == f"paraform.integrations.{module} {message}"


def test_the_face_and_the_monitor_load_none_of_the_packages() -> None:
    code = """
import sys, paraform, paraform.model.monitor, paraform.model.summary, paraform.integrations.tensorboard
print([name for name in ("lightning", "pytorch_lightning", "transformers", "tensorboard") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_step_that_is_not_measured_writes_nothing(tmp_path: Path) -> None:
    monitor = Monitor(pf.register_parametrization(nn.Linear(2, 2), "weight", pf.Symmetric()), every=2)
    with SummaryWriter(str(tmp_path)) as writer:
        for _ in range(3):
            tensorboard.write(writer, monitor.step())
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("weight/residual")] == [2]
