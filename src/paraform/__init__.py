"""Structure for the parameters of PyTorch models: symmetric, orthogonal, positive definite, sparse weights.

>>> import torch
>>> from torch import nn
>>> import paraform as pf
>>> layer = pf.register_parametrization(nn.Linear(64, 64), "weight", pf.Orthogonal())
>>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
>>> layer(torch.randn(8, 64)).square().mean().backward()
>>> optimizer.step()
>>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(64), atol=1e-4)  # orthogonal after every step
True
"""

from . import parametrizations, parametrize
from .constraints import (
    Constraint,
    ConstraintError,
    Flatten,
    Masked,
    Orthogonal,
    PositiveDefinite,
    ProjectionWarning,
    Skew,
    SpectralNorm,
    Symmetric,
    WeightNorm,
)
from .model import param_groups
from .parametrize import (
    Function,
    ParametrizationList,
    cache_each_forward,
    cached,
    frozen,
    functional_call,
    is_parametrized,
    match_by_name,
    plain_state_dict,
    register_parametrization,
    remove_parametrizations,
    transfer_parametrizations_and_params,
    type_before_parametrizations,
    writable,
)

__version__ = "0.1.0"

__all__ = [
    "Constraint",
    "ConstraintError",
    "Flatten",
    "Function",
    "Masked",
    "Orthogonal",
    "ParametrizationList",
    "PositiveDefinite",
    "ProjectionWarning",
    "Skew",
    "SpectralNorm",
    "Symmetric",
    "WeightNorm",
    "__version__",
    "cache_each_forward",
    "cached",
    "frozen",
    "functional_call",
    "is_parametrized",
    "match_by_name",
    "param_groups",
    "parametrizations",
    "parametrize",
    "plain_state_dict",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
    "writable",
]
