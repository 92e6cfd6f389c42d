"""Derivatives of the map against finite differences."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

from .law import law
from .subject import Subject, value_at


def _check(subject: Subject, order: int) -> None:
    layer = subject.stirred(subject.layer(subject.point()))
    step = layer.step
    raws = tuple(raw.detach().clone().requires_grad_() for raw in layer.raws)

    def value(*raws: Tensor) -> Tensor:
        return value_at(step, raws)

    check = gradcheck if order == 1 else gradgradcheck
    try:
        check(value, raws)
    except GradcheckError as error:
        raise AssertionError(str(error).strip()) from error


@law
def first_derivatives(subject: Subject) -> None:
    """First derivatives agree with finite differences (``torch.autograd.gradcheck``)."""
    _check(subject, 1)


@law
def second_derivatives(subject: Subject) -> None:
    """Second derivatives agree with finite differences (``torch.autograd.gradgradcheck``)."""
    _check(subject, 2)
