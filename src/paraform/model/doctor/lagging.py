"""State that lags behind the raw tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ...parametrize.named import Named, named_chains
from ..measure import wide
from .evaluation import Evaluation, has_numbers
from .finding import Finding
from .patient import Patient
from .values import is_finite

# A new weight gets 15 steps of the power iteration, which leave a few percent where singular values lie close together.
_LAG = 0.1
# By this the spectral norms of both parametrizations modules, torch's and ours, are known.
_ESTIMATE = ("n_power_iterations", "dim", "_u", "_v")


def spectral_norm(named: Named, evaluation: Evaluation) -> Iterator[Finding]:
    """PF601, where a weight is divided by an estimate that is less than its largest singular value."""
    for step, output in zip(evaluation.steps, evaluation.outputs, strict=True):
        if not all(hasattr(step, name) for name in _ESTIMATE) or output.ndim < 2:
            continue
        if not (has_numbers(output) and output.numel() and is_finite(output)):
            continue
        sigma = float(torch.linalg.matrix_norm(_matrix(wide(output), int(step.dim)), ord=2))  # type: ignore[arg-type]
        if sigma > 1 + _LAG:
            yield Finding(
                "PF601",
                "warning",
                named.name,
                f"The largest singular value is {sigma:.3g} after the division that is to make it 1: the estimate of "
                f"the power iteration is {100 / sigma:.0f} % of the true one.",
                "Replace it by a spectral norm without an estimate, paraform.SpectralNorm() (around a kernel: "
                "Flatten(SpectralNorm())). Or let the estimate catch up with forward passes in training mode, and with "
                "more n_power_iterations.",
            )


def averaged_bases(patient: Patient) -> Iterator[Finding]:
    """PF602, where an average over models leaves out the buffers, which a base is one of."""
    for path, module in patient.model.named_modules():
        if not isinstance(module, AveragedModel) or module.use_buffers:
            continue
        prefix = f"{path}." if path else ""
        for named in named_chains(module):
            if any(getattr(step, "has_base", False) for step in named.chain):
                yield Finding(
                    "PF602",
                    "note",
                    prefix + named.name,
                    "AveragedModel averages its raw tensor and not its base, which moves when the model is trained "
                    "with rebase_every: the average then stays where it began.",
                    "AveragedModel(model, use_buffers=True).",
                )


def _matrix(value: Tensor, dim: int) -> Tensor:
    return value.movedim(dim, 0).flatten(1)
