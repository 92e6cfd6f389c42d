"""A model with a parametrization of several kinds, saved, and ways to run a command on it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from paraform import Flatten, Orthogonal, SpectralNorm, WeightNorm, cli, register_parametrization
from paraform.files import save

WIDE = "500"  # columns, so that no sentence is broken into lines
RECURRENT = "rnn.weight_hh_l0"
RAW = "rnn.parametrizations.weight_hh_l0.original"


class Network(nn.Module):
    """Plain layers, of which some are parametrized by :func:`constrained`, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 6)
        self.convolution = nn.Conv1d(2, 4, 3)
        self.head = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.embedding = nn.Embedding(5, 6)
        self.decoder = nn.Linear(6, 5)
        self.decoder.weight = self.embedding.weight
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))

    def forward(self, sequence: Tensor) -> Tensor:
        states = self.rnn(sequence)[0]
        seen = self.convolution(states.reshape(-1, 2, 3)).mean()
        return self.norm(self.head(states[-1])) + self.decoder(states[-1]) * seen


def constrained() -> Network:
    model = Network()
    register_parametrization(model.rnn, "weight_hh_l0", Orthogonal())
    register_parametrization(model.convolution, "weight", Flatten(SpectralNorm()))
    register_parametrization(model.head, "weight", WeightNorm())
    with torch.no_grad():  # as training does
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def saved(folder: Path) -> tuple[Network, Path]:
    model, path = constrained(), folder / "model.safetensors"
    save(model, path)
    return model, path


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(cli.app(), [str(each) for each in arguments], env={"COLUMNS": WIDE, **environment})


def edited(path: Path, change: Any) -> Path:
    """A copy of a file, of which ``change(tensors, recipe)`` has changed what it was given."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
    recipe = json.loads(metadata["paraform"])
    change(tensors, recipe)
    new = path.with_name("edited.safetensors")
    save_file(tensors, new, {"paraform": json.dumps(recipe)})
    return new


def only_sentence(result: Result) -> str:
    """The one line of a refusal: on stderr, with nothing on stdout, and no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "Traceback" not in line
    assert line.endswith((".", "`"))
    return line
