"""Constrained models under Hugging Face's real Trainer: watched, saved in safetensors, and resumed."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

os.environ["HF_HUB_OFFLINE"] = "1"  # before the import, which reads it

from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)

import paraform as pf
from paraform.integrations.transformers import MonitorCallback, declare_ties
from paraform.model.monitor import read_log

register = pf.register_parametrization


class Data(Dataset[dict[str, Tensor]]):
    """What each of the models below trains on."""

    def __init__(self, model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(0)
        words = torch.randint(0, 20, (32, 5), generator=generator)
        x = torch.randn(32, 4, generator=generator) if isinstance(model, Own) else words
        labels = words if isinstance(model, GPT2LMHeadModel) else torch.arange(32) % 2
        self.columns = {"x" if isinstance(model, Own) else "input_ids": x, "labels": labels}

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


class Own(nn.Module):
    """A module of the user's own, which knows nothing of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.second(self.first(x).tanh())
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def own() -> nn.Module:
    torch.manual_seed(0)
    model = Own()
    register(model.first, "weight", pf.Orthogonal())
    register(model.second, "weight", pf.SpectralNorm())
    register(model.second, "bias", pf.UnitNorm())
    return model


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForSequenceClassification(config)
    register(model.bert.encoder.layer[0].attention.self.query, "weight", pf.Orthogonal())
    register(model.classifier, "weight", pf.SpectralNorm())
    return model


def tied() -> nn.Module:
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8, **ends))
    register(model.transformer.wte, "weight", pf.UnitNorm())
    register(model.transformer.h[0].attn.c_attn, "weight", pf.Blocks(pf.Orthogonal(), 3, dim=-1))
    return model


def trainer_of(model: nn.Module, folder: Path, optimizers: Any = (None, None), **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        **{
            "per_device_train_batch_size": 8,  # 4 steps an epoch
            "num_train_epochs": 2,
            "learning_rate": 0.05,
            "logging_steps": 2,
            "report_to": [],
            "save_strategy": "no",
            "use_cpu": True,
            "disable_tqdm": True,
            "seed": 0,
            **options,
        },
    )
    return Trainer(model=model, args=arguments, train_dataset=Data(model), optimizers=optimizers)


MODELS = pytest.mark.parametrize("make", [own, bert], ids=lambda make: make.__name__)


def test_a_model_is_watched_and_its_numbers_are_in_the_trainers_logs(tmp_path: Path) -> None:
    trainer = trainer_of(own(), tmp_path)
    callback = MonitorCallback(trainer, every=4, log=tmp_path / "log.jsonl")
    trainer.add_callback(callback)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "first.weight/residual" in entry]
    assert [entry["step"] for entry in logged] == [4, 8]
    for entry, record in zip(logged, callback.monitor.history, strict=True):
        assert entry["first.weight/residual"] == record["tensors"]["first.weight"]["residual"]
        assert entry.keys() >= {"second.weight/condition", "second.bias/raw_norm"}
    assert read_log(tmp_path / "log.jsonl") == callback.monitor.history
    # The trainer's own log of the same step is not lost.
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [2, 4, 6, 8]


@MODELS
def test_a_model_trains_in_its_sets(tmp_path: Path, make: Any) -> None:
    model = make()
    layer = model.first if make is own else model.bert.encoder.layer[0].attention.self.query
    before = layer.weight.detach().clone()
    trainer_of(model, tmp_path).train()
    W = layer.weight.detach()
    assert not torch.allclose(W, before, atol=1e-2)
    torch.testing.assert_close(W.T @ W, torch.eye(W.shape[1]), atol=1e-5, rtol=0)


@MODELS
def test_watching_changes_nothing(tmp_path: Path, make: Any) -> None:
    states = []
    for watch in False, True:
        trainer = trainer_of(make(), tmp_path)
        if watch:
            trainer.add_callback(MonitorCallback(trainer, every=1))
        trainer.train()
        states.append(trainer.model.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


@MODELS
def test_a_checkpoint_in_safetensors_resumes_as_if_the_training_had_not_stopped(tmp_path: Path, make: Any) -> None:
    straight = trainer_of(make(), tmp_path / "straight", save_strategy="steps", save_steps=4)
    straight.train()
    saved = load_file(tmp_path / "straight" / "checkpoint-4" / "model.safetensors")
    assert any(name.endswith("parametrizations.weight.original") for name in saved)

    resumed = trainer_of(make(), tmp_path / "resumed")
    callback = MonitorCallback(resumed, every=2)
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-4"))
    assert [record["step"] for record in callback.monitor.history] == [6, 8]
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_bases_that_move_are_resumed_too(tmp_path: Path) -> None:
    def made(folder: str, **options: Any) -> Trainer:
        model = own()
        optimizer = torch.optim.AdamW(pf.param_groups(model, weight_decay=0.01), lr=0.05)
        pf.rebase_every(optimizer, model, 3)
        return trainer_of(model, tmp_path / folder, optimizers=(optimizer, None), **options)

    straight, resumed = made("straight", save_strategy="steps", save_steps=4), made("resumed")
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-4"))
    base = "first.parametrizations.weight.0.base"
    assert not torch.equal(straight.model.state_dict()[base], own().state_dict()[base])
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_pretrained_model_is_saved_plain_and_loads_with_from_pretrained(tmp_path: Path) -> None:
    model = bert().eval()
    x = {"input_ids": torch.arange(5)[None]}
    model.save_pretrained(tmp_path, state_dict=pf.plain_state_dict(model))
    plain = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(plain(**x).logits, model(**x).logits)


def test_a_tied_embedding_is_saved_once_its_tie_is_declared(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shared tensors"):
        tied().save_pretrained(tmp_path / "refused")
    straight, resumed = tied(), tied()
    declare_ties(straight)
    declare_ties(resumed)
    trainer_of(straight, tmp_path, save_strategy="steps", save_steps=4).train()
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert "transformer.wte.parametrizations.weight.original" in saved
    assert not any(name.startswith("lm_head") for name in saved)
    trainer_of(resumed, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    resumed.tie_weights()
    assert torch.equal(resumed.lm_head.weight, resumed.transformer.wte.weight)
    resumed.save_pretrained(tmp_path / "plain", state_dict=pf.plain_state_dict(resumed))
    plain, x = GPT2LMHeadModel.from_pretrained(tmp_path / "plain").eval(), torch.arange(5)[None]
    torch.testing.assert_close(plain(x).logits, resumed.eval()(x).logits)


def test_every_is_checked_where_the_callback_is_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="whole number"):
        MonitorCallback(None, every=1.5)


def test_a_number_in_the_place_of_the_trainer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected the trainer first, MonitorCallback\(trainer, every=50\), got int"):
        MonitorCallback(50)
