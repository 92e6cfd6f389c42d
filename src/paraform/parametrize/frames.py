"""Where this thread is: what the functions tell that it is in. (A flag would need a hook on every module.)"""

from __future__ import annotations

import re
import sys
from types import FrameType

from torch.nn import Module

_CALL = Module._call_impl.__code__
_FUNCTIONAL_CALL = re.compile(r"_?functional_call|torch_dynamo_resume_in__?functional_call_at_\d+")


def in_forward() -> bool:
    """Whether this thread is inside the forward pass of some module: its ``forward``, or the hooks around it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" or code is _CALL:
            return True
        frame = frame.f_back
    return False


def in_functional_call() -> bool:
    """Whether this thread is inside ``functional_call``, torch's or ours, or what torch.compile names after it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if _FUNCTIONAL_CALL.fullmatch(frame.f_code.co_name):
            return True
        frame = frame.f_back
    return False
