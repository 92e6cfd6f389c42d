"""Constrained models under Lightning's real trainer: watched, saved and resumed."""

import copy
import csv
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import paraform as pf
from paraform.integrations.lightning import MonitorCallback
from paraform.model.monitor import read_log

register = pf.register_parametrization

pytestmark = [
    # Of Lightning's own, which uses what torch 2.13 has deprecated.
    pytest.mark.filterwarnings(
        r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    ),
    # Advice for real trainings.
    pytest.mark.filterwarnings(r"ignore:The 'train_dataloader' does not have many workers"),
]


def module_of(package: ModuleType = lightning, moves: int = 0) -> Any:
    class Module(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6))

        def training_step(self, batch: tuple[Tensor], index: int) -> Tensor:
            return self.net(batch[0]).square().mean() + self.net[0].weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            optimizer = torch.optim.Adam(pf.param_groups(self, weight_decay=0.01), lr=0.05)
            if moves:
                pf.rebase_every(optimizer, self, moves)
            return optimizer

    torch.manual_seed(0)
    module = Module()
    register(module.net[0], "weight", pf.Orthogonal())
    register(module.net[2], "weight", pf.SpectralNorm())
    register(module.net[2], "bias", pf.UnitNorm())
    return module


def data() -> DataLoader[Any]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x), batch_size=4)  # 8 batches


def trainer_of(folder: Path, package: ModuleType = lightning, **options: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return package.Trainer(
        accelerator="cpu", default_root_dir=folder, enable_model_summary=False, **{**quiet, **options}
    )


@pytest.mark.parametrize("package", [lightning, pytorch_lightning], ids=lambda package: package.__name__)
def test_a_module_trains_in_its_sets_and_is_watched(tmp_path: Path, package: ModuleType) -> None:
    module, callback = module_of(package), MonitorCallback(every=4, log=tmp_path / "log.jsonl")
    before = module.net[0].weight.detach().clone()
    trainer = trainer_of(tmp_path, package, max_epochs=2, callbacks=[callback])
    trainer.fit(module, data())
    W = module.net[0].weight.detach()
    assert not torch.allclose(W, before, atol=0.1)
    torch.testing.assert_close(W.T @ W, torch.eye(4), atol=1e-5, rtol=0)
    assert [record["step"] for record in callback.monitor.history] == [4, 8, 12, 16]
    assert read_log(tmp_path / "log.jsonl") == callback.monitor.history
    last = callback.monitor.history[-1]["tensors"]
    assert last.keys() == {"net.0.weight", "net.2.weight", "net.2.bias"}
    assert trainer.callback_metrics["net.0.weight/residual"] == pytest.approx(last["net.0.weight"]["residual"])


def test_the_numbers_come_to_lightnings_logger(tmp_path: Path) -> None:
    logger, callback = CSVLogger(tmp_path), MonitorCallback(every=4)
    trainer_of(tmp_path, max_epochs=1, callbacks=[callback], logger=logger, log_every_n_steps=4).fit(
        module_of(), data()
    )
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["net.0.weight/condition"]]
    numbers = [record["tensors"]["net.0.weight"]["condition"] for record in callback.monitor.history]
    assert len(numbers) == 2
    assert [float(row["net.0.weight/condition"]) for row in rows] == pytest.approx(numbers)


def test_batches_without_a_step_are_not_measured_again(tmp_path: Path) -> None:
    callback = MonitorCallback(every=1)
    trainer_of(tmp_path, max_epochs=1, accumulate_grad_batches=4, callbacks=[callback]).fit(module_of(), data())
    assert [record["step"] for record in callback.monitor.history] == [1, 2]


def test_watching_changes_nothing(tmp_path: Path) -> None:
    states = []
    for callbacks in [], [MonitorCallback(every=1)]:
        module = module_of()
        trainer_of(tmp_path, max_epochs=1, callbacks=callbacks).fit(module, data())
        states.append(module.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


@pytest.mark.parametrize("moves", [0, 3], ids=["bases stay", "bases move"])
def test_a_checkpoint_resumes_as_if_the_training_had_not_stopped(tmp_path: Path, moves: int) -> None:
    straight = module_of(moves=moves)
    trainer_of(tmp_path, max_epochs=2).fit(straight, data())

    first = module_of(moves=moves)
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(first, data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second, callback = module_of(moves=moves), MonitorCallback(every=4)
    trainer_of(tmp_path, max_epochs=2, callbacks=[callback]).fit(second, data(), ckpt_path=tmp_path / "half.ckpt")
    assert [record["step"] for record in callback.monitor.history] == [12, 16]
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_checkpoint_of_the_plain_module_loads_into_the_constrained_one(tmp_path: Path) -> None:
    plain = module_of()
    pf.remove_parametrizations(plain.net[0], "weight")
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(plain, data())
    trainer.save_checkpoint(tmp_path / "plain.ckpt", weights_only=True)
    constrained = module_of()
    with pytest.warns(pf.ProjectionWarning):
        constrained.load_state_dict(torch.load(tmp_path / "plain.ckpt", weights_only=True)["state_dict"])
    U, _, V = torch.linalg.svd(plain.net[0].weight.detach(), full_matrices=False)
    torch.testing.assert_close(constrained.net[0].weight.detach(), U @ V, atol=1e-4, rtol=0)  # the nearest


def test_the_callback_is_copied_with_the_trainer(tmp_path: Path) -> None:
    callback = MonitorCallback(every=2)
    trainer_of(tmp_path, max_epochs=1, callbacks=[callback]).fit(module_of(), data())
    assert copy.deepcopy(callback).monitor.history == callback.monitor.history


def test_every_is_checked_where_the_callback_is_made() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        MonitorCallback(every=0)
