"""Saved models: raw tensors and the recipe in one safetensors file."""

from .errors import FileError
from .known import saved_as
from .names import printable
from .saved import SavedFile, SavedTensor
from .saving import save
from .writing import write_tensors

__all__ = ["FileError", "SavedFile", "SavedTensor", "printable", "save", "saved_as", "write_tensors"]
