"""Row 19: saving a whole model, often after a whole night of training."""

import io
import json
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import cloudpickle
import torch
from torch import nn

from tests.complaints.layers import doubled
from tests.complaints.registry import Engine, complaint, raises

REFUSED = raises(RuntimeError, "Serialization of parametrized modules is only supported through state_dict().")


@complaint(
    19,
    "darts#2638",
    "pytorch PR#33344",
    symptom="torch.save of a whole model raises",
    on_torch=REFUSED,
)
def test_darts_2638_a_whole_model_is_saved_and_loaded(engine: Engine) -> None:
    model, file = nn.Sequential(doubled(engine)), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)[0].weight, model[0].weight)


@complaint(
    19,
    "ZEST#4",
    "mase#60",
    symptom="pickle of a model raises",
    on_torch=REFUSED,
)
def test_zest_4_a_model_is_pickled(engine: Engine) -> None:
    model = nn.Sequential(doubled(engine))
    assert torch.equal(pickle.loads(pickle.dumps(model))[0].weight, model[0].weight)


@complaint(
    19,
    "mlflow#8214",
    "ray#23894",
    symptom="cloudpickle of a model, by which trackers log it and clusters send it, raises",
    on_torch=REFUSED,
)
def test_mlflow_8214_a_model_is_pickled_by_cloudpickle(engine: Engine) -> None:
    model = nn.Sequential(doubled(engine))
    assert torch.equal(pickle.loads(cloudpickle.dumps(model))[0].weight, model[0].weight)


@complaint(
    19,
    "geotorch#6",
    symptom="a model that was saved whole cannot be loaded by another process, which does not know its class",
    on_torch=REFUSED,
)
def test_geotorch_6_a_saved_model_is_loaded_by_another_process(engine: Engine) -> None:
    model = nn.Sequential(engine.parametrizations.weight_norm(nn.Linear(3, 3)))
    file = io.BytesIO()
    torch.save(model, file)
    program = (
        "import io, sys, torch; file = io.BytesIO(sys.stdin.buffer.read()); "
        "print(torch.load(file, weights_only=False)[0].weight.tolist())"
    )
    run = subprocess.run([sys.executable, "-c", program], input=file.getvalue(), capture_output=True, check=True)
    assert torch.allclose(torch.tensor(json.loads(run.stdout)), model[0].weight)


@complaint(
    19,
    symptom="a model cannot be handed to a spawned process",
    on_torch=REFUSED,
)
def test_a_model_is_pickled_for_a_spawned_process(engine: Engine) -> None:
    model = nn.Sequential(doubled(engine))
    assert torch.equal(ForkingPickler.loads(ForkingPickler.dumps(model))[0].weight, model[0].weight)
