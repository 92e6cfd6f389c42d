"""Whole models: what goes over all the tensors of a model at once."""

from . import presets
from .constrain import constrain
from .doctor import doctor
from .fold import fold
from .monitor import Monitor
from .param_groups import param_groups
from .rebase_every import rebase_every
from .summary import summary

__all__ = ["Monitor", "constrain", "doctor", "fold", "param_groups", "presets", "rebase_every", "summary"]
