"""The laws that any parametrization can be held against."""

from .check import LAWS, LawError, check_parametrization

__all__ = ["LAWS", "LawError", "check_parametrization"]
