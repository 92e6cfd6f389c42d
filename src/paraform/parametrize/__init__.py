"""The parametrization engine: the names of ``torch.nn.utils.parametrize``, with the same meaning."""

from .chain import ParametrizationList
from .contexts import ForwardCache, cache_each_forward, cached, frozen
from .registration import register_parametrization, remove_parametrizations
from .surgery import is_parametrized, type_before_parametrizations
from .transfer import transfer_parametrizations_and_params

__all__ = [
    "ForwardCache",
    "ParametrizationList",
    "cache_each_forward",
    "cached",
    "frozen",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]
