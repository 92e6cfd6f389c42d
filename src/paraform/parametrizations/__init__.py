"""Stands in for ``torch.nn.utils.parametrizations``: orthogonal, weight_norm and spectral_norm on any layer.

Signatures and state dicts are torch's: a checkpoint of either loads in the other and gives the same weight, but for one
of ours with ``dim=-1``, which torch reads as ``dim=None``. Checkpoints of the plain layer load here too, and those of
torch's older hooks.
"""

from ._orthogonal import orthogonal
from ._spectral_norm import spectral_norm
from ._weight_norm import weight_norm

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
