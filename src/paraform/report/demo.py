"""A small constrained model for the report to show: trained for a moment, with a history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..constraints import (
    Blocks,
    Flatten,
    Hurwitz,
    LowRank,
    Masked,
    Orthogonal,
    PositiveDefinite,
    Schur,
    Simplex,
    SpectralNorm,
    Symmetric,
)
from ..model.monitor import Monitor, Record
from ..parametrize import register_parametrization

CHANNELS, STATE, LENGTH = 8, 32, 20
STEPS, EVERY = 60, 2


class Demo(nn.Module):
    """Sequences to a number, with a set for every kind of weight."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrence = nn.RNN(STATE, STATE, batch_first=True)
        self.embed = nn.Conv1d(CHANNELS, STATE, 3, padding=1)
        self.gates = nn.GRU(STATE, STATE, batch_first=True)
        self.flow = nn.Linear(STATE, STATE, bias=False)
        self.memory = nn.Linear(STATE, STATE, bias=False)
        self.mix = nn.Linear(STATE, 2 * STATE)
        self.select = nn.Linear(2 * STATE, STATE)
        self.attend = nn.Linear(STATE, 4, bias=False)
        self.metric = nn.Linear(STATE, STATE, bias=False)

    def forward(self, sequences: Tensor) -> Tensor:
        embedded = torch.relu(self.embed(sequences)).mT
        states, _ = self.recurrence(embedded)
        states, _ = self.gates(states)
        x = states[:, -1]
        x = x + 0.1 * self.flow(x)
        x = self.memory(x)
        x = self.select(torch.relu(self.mix(x)))
        x = x + self.attend(x).mean(dim=1, keepdim=True)
        energy: Tensor = (x * self.metric(x)).sum(dim=1)
        return energy


def demo_model() -> Demo:
    """The model before its training, with initial values of torch's generator."""
    model = Demo()
    register_parametrization(model.embed, "weight", Flatten(SpectralNorm()))
    register_parametrization(model.recurrence, "weight_hh_l0", Orthogonal())
    # A chain of two: a symmetric matrix of which a band is left.
    register_parametrization(model.recurrence, "weight_ih_l0", Symmetric())
    ones = torch.ones(STATE, STATE)
    register_parametrization(model.recurrence, "weight_ih_l0", Masked(ones.tril(6).triu(-6)))
    register_parametrization(model.gates, "weight_hh_l0", Blocks(Orthogonal(), 3))
    register_parametrization(model.flow, "weight", Hurwitz(0.1))
    register_parametrization(model.memory, "weight", Schur(0.95))
    register_parametrization(model.mix, "weight", LowRank(6))
    register_parametrization(model.mix, "bias", torch.tanh)  # a plain function, which knows no set
    register_parametrization(model.select, "weight", Masked.by_magnitude(model.select.weight, 0.75))
    register_parametrization(model.attend, "weight", Simplex())
    register_parametrization(model.metric, "weight", PositiveDefinite())
    return model


def trained_demo(seed: int = 0) -> tuple[Demo, list[Record]]:
    """The model after a moment of training, and the history of its monitor. The random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = demo_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        monitor = Monitor(model, every=EVERY)
        monitor.measure()
        for _ in range(STEPS):
            sequences = torch.randn(64, LENGTH, CHANNELS).mT
            target = sequences[:, 0].mean(dim=1) - sequences[:, 1, -5:].mean(dim=1)
            optimizer.zero_grad()
            loss = (model(sequences) - target).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step()
    return model, monitor.history
