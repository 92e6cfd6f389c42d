"""The safetensors format: a length, a header of JSON, and the bytes of the tensors, one behind the other.

(https://github.com/huggingface/safetensors, section "Format".) It is read and written here, with a limit for each
number and a tensor at a time; files go both ways between this and the ``safetensors`` package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

LENGTH_BYTES = 8
"""The header's length stands first, in so many bytes, the lowest first."""
LARGEST_HEADER = 32 * 2**20
"""In bytes: some 100 000 tensors. No larger header is read, nor written."""
METADATA = "__metadata__"
"""The key of the header that names no tensor."""

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The format's names of the dtypes that it knows."""
CODES = {dtype: code for code, dtype in DTYPES.items()}


def bytes_of(shape: Sequence[int], dtype: torch.dtype) -> int:
    """How many bytes the entries of such a tensor take.

    >>> bytes_of((2, 3), torch.float64)
    48
    """
    return math.prod(shape) * dtype.itemsize
