"""Row 21: an error inside a parametrization that does not say what it is."""

import traceback

import pytest
import torch
from torch import Tensor, nn

from tests.complaints.registry import Engine, complaint, wrong


class Failing(nn.Module):
    """Right at registration; raises in evaluation mode."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, X: Tensor) -> Tensor:
        if not self.training:
            raise self.error
        return X


def failing(engine: Engine, error: Exception) -> nn.Linear:
    return engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Failing(error)).eval()


@complaint(
    21,
    "pytorch#72452",
    "pytorch PR#58488",
    symptom="an AttributeError inside a parametrization appears as a missing attribute of the layer",
    on_torch=wrong("the error is another one"),
)
def test_pytorch_72452_an_attribute_error_inside_a_parametrization_is_shown_as_itself(engine: Engine) -> None:
    error = AttributeError("'Failing' object has no attribute 'sclae'")
    with pytest.raises(AttributeError) as raised:
        failing(engine, error)(torch.ones(1, 3))
    assert raised.value is error, "the error is another one"


@complaint(
    21,
    symptom="an error inside a parametrization does not say in which module, tensor and parametrization",
    on_torch=wrong("the place is not named"),
)
def test_an_error_inside_a_parametrization_names_the_place(engine: Engine) -> None:
    with pytest.raises(ArithmeticError) as raised:
        failing(engine, ArithmeticError("singular"))(torch.ones(1, 3))
    words = "".join(traceback.format_exception_only(raised.value))
    assert all(name in words for name in ("Linear", "'weight'", "Failing")), "the place is not named"
