"""Row 5: another tensor in place of the weight, with its gradient."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.complaints.layers import Square, doubled
from tests.complaints.registry import Engine, complaint, raises, wrong


def gradient_of_stand_in(layer: nn.Module) -> Tensor:
    W = torch.eye(3).requires_grad_()
    loss = functional_call(layer, {"weight": W}, torch.ones(1, 3)).sum()
    assert loss.requires_grad, "no gradient"
    (gradient,) = torch.autograd.grad(loss, W, allow_unused=True)
    assert gradient is not None, "no gradient"
    return gradient


@complaint(
    5,
    "pytorch PR#186565",
    "pytorch#58839",
    "pytorch PR#68969",
    symptom="functional_call(layer, {'weight': W}) uses the value of W and gives it no gradient",
    on_torch=wrong("no gradient"),
)
def test_pytorch_pr_186565_a_weight_given_to_functional_call_gets_its_gradient(engine: Engine) -> None:
    assert torch.equal(gradient_of_stand_in(doubled(engine)), torch.ones(3, 3))


@complaint(
    5,
    symptom="functional_call(layer, {'weight': W}) fails where the parametrization has no right_inverse",
    on_torch=raises(RuntimeError, "parametrization Square does not implement right_inverse."),
)
def test_a_weight_given_to_functional_call_needs_no_right_inverse(engine: Engine) -> None:
    layer = engine.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Square())
    assert torch.equal(gradient_of_stand_in(layer), torch.ones(3, 3))


@complaint(
    5,
    symptom="functional_call(..., strict=True) does not know the plain name of a parametrized weight",
    on_torch=raises(RuntimeError, "Error(s) in reparametrizing for ParametrizedLinear:"),
)
def test_a_strict_functional_call_takes_the_plain_names(engine: Engine) -> None:
    layer = doubled(engine)
    call = getattr(engine.parametrize, "functional_call", functional_call)
    W = torch.eye(3).requires_grad_()
    call(layer, {"weight": W, "bias": torch.zeros(3)}, torch.ones(1, 3), strict=True).sum().backward()
    assert torch.equal(W.grad, torch.ones(3, 3))


@complaint(
    5,
    "geotorch#12",
    symptom="assigning a hypernetwork's output cuts its gradient off without a word",
    on_torch=wrong("the gradient was cut off without an error"),
)
def test_geotorch_12_an_output_with_a_graph_is_not_cut_off_from_it(engine: Engine) -> None:
    layer, hypernetwork = doubled(engine), nn.Linear(2, 9)
    output = hypernetwork(torch.ones(2)).reshape(3, 3)
    try:
        layer.weight = output
    except RuntimeError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert refusal, "the gradient was cut off without an error"
    assert "functional_call" in refusal
    functional_call(layer, {"weight": output}, torch.ones(1, 3)).sum().backward()
    assert torch.equal(hypernetwork.bias.grad, torch.ones(9))
