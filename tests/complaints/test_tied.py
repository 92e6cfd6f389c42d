"""Row 14: a tensor that two modules share."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraform import WeightNorm, register_parametrization
from tests.complaints.registry import Engine, complaint, raises, wrong
from tests.parametrize.cases import Double


class LanguageModel(nn.Module):
    """The head is tied to the embedding, in the way of Hugging Face's models."""

    _tied_weights_keys = ("head.weight",)

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


class Functional(LanguageModel):
    """The head is written out."""

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.embedding(tokens), self.embedding.weight)


@complaint(
    14,
    symptom="of a tied embedding and head, one is parametrized and the other computes with the raw tensor",
    on_torch=wrong("the head computes with the raw tensor"),
)
def test_a_head_that_is_tied_to_the_embedding_has_its_value(engine: Engine) -> None:
    model, tokens = LanguageModel(), torch.arange(5)
    before = model(tokens)
    engine.parametrize.register_parametrization(model.embedding, "weight", Double())
    assert torch.equal(model.head.weight, model.embedding.weight), "the head computes with the raw tensor"
    assert torch.equal(model(tokens), before)


@complaint(
    14,
    symptom="a head that is tied again after the registration is cut off from its embedding, or refused",
    on_torch=raises(TypeError, "cannot assign 'torch.FloatTensor' as parameter 'weight'"),
)
def test_a_tie_that_is_made_anew_after_the_registration_stays(engine: Engine) -> None:
    model = LanguageModel()
    engine.parametrize.register_parametrization(model.embedding, "weight", Double())
    model.tie_weights()
    with torch.no_grad():
        model.embedding.parametrizations.weight.original.fill_(1.0)
    assert torch.equal(model.head.weight, torch.full((5, 3), 2.0))


@complaint(
    14,
    symptom="of a tied embedding and head, one is made plain again and the other computes with that as a raw tensor",
    on_torch=wrong("the owners have different values"),
)
def test_owners_that_are_made_plain_again_stay_tied(engine: Engine) -> None:
    model = LanguageModel()
    engine.parametrize.register_parametrization(model.embedding, "weight", Double())
    if not engine.parametrize.is_parametrized(model.head):  # torch needs the user's help
        engine.parametrize.transfer_parametrizations_and_params(model.embedding, model.head)
    engine.parametrize.remove_parametrizations(model.embedding, "weight")
    assert torch.equal(model.head.weight, model.embedding.weight), "the owners have different values"


@complaint(
    14,
    symptom="a head whose weight lies in the memory of the embedding's is cut off from it without a word",
    on_torch=wrong("the head does not follow"),
)
def test_a_head_in_the_memory_of_the_embedding_is_not_cut_off_in_silence(engine: Engine) -> None:
    model = LanguageModel()
    model.head.weight = nn.Parameter(model.embedding.weight)  # shares the memory, and is another parameter
    try:
        engine.parametrize.register_parametrization(model.embedding, "weight", Double())
    except ValueError:
        return
    with torch.no_grad():
        model.embedding.parametrizations.weight.original.fill_(1.0)
    assert torch.equal(model.head.weight, model.embedding.weight), "the head does not follow"


@pytest.mark.parametrize("kind", [LanguageModel, Functional])
def test_a_tied_model_computes_as_before_and_trains(kind: type[LanguageModel]) -> None:
    model, tokens = kind(), torch.arange(5)
    before = model(tokens)
    register_parametrization(model.head, "weight", WeightNorm())
    assert torch.allclose(model(tokens), before)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(tokens).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(model(tokens), before)
    assert torch.equal(model.head.weight, model.embedding.weight)
