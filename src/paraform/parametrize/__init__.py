"""The parametrization engine: the names of ``torch.nn.utils.parametrize``, with the same meaning."""

from .chain import ParametrizationList
from .contexts import ForwardCache, cache_each_forward, cached, frozen
from .function import Function
from .optimizer_state import match_by_name
from .override import functional_call
from .rebase import rebase
from .registration import register_parametrization, remove_parametrizations
from .state_dict import plain_state_dict
from .surgery import is_parametrized, type_before_parametrizations
from .transfer import transfer_parametrizations_and_params
from .writable import writable

__all__ = [
    "ForwardCache",
    "Function",
    "ParametrizationList",
    "cache_each_forward",
    "cached",
    "frozen",
    "functional_call",
    "is_parametrized",
    "match_by_name",
    "plain_state_dict",
    "rebase",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
    "writable",
]
