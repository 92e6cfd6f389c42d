"""The parametrization engine: the names of ``torch.nn.utils.parametrize``, with the same meaning."""

from .cache import cached
from .chain import ParametrizationList
from .function import Function
from .override import functional_call
from .registration import register_parametrization, remove_parametrizations
from .state_dict import plain_state_dict
from .surgery import is_parametrized, type_before_parametrizations
from .transfer import transfer_parametrizations_and_params
from .writable import writable

__all__ = [
    "Function",
    "ParametrizationList",
    "cached",
    "functional_call",
    "is_parametrized",
    "plain_state_dict",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
    "writable",
]
