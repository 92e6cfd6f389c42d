"""Whole models: what goes over all the tensors of a model at once."""

from .doctor import doctor
from .param_groups import param_groups
from .rebase_every import rebase_every

__all__ = ["doctor", "param_groups", "rebase_every"]
