"""Saved models: raw tensors and the recipe in one safetensors file."""

from .errors import FileError
from .names import printable
from .writing import write_tensors

__all__ = ["FileError", "printable", "write_tensors"]
