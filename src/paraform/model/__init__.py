"""Whole models: what goes over all the tensors of a model at once."""

from . import presets
from .constrain import constrain
from .param_groups import param_groups
from .rebase_every import rebase_every

__all__ = ["constrain", "param_groups", "presets", "rebase_every"]
