"""Whole models: what goes over all the tensors of a model at once."""

from .param_groups import param_groups

__all__ = ["param_groups"]
