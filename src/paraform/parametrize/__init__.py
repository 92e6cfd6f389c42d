"""The parametrization engine: the names of ``torch.nn.utils.parametrize``, with the same meaning."""

from .cache import cached
from .chain import ParametrizationList
from .optimizer_state import match_by_name
from .registration import register_parametrization, remove_parametrizations
from .surgery import is_parametrized, type_before_parametrizations
from .transfer import transfer_parametrizations_and_params

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "match_by_name",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]
