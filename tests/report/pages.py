"""Models to report, and a reader of the pages that does not come from the code that writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import torch
from torch import Tensor, nn

import paraform as pf
from paraform import register_parametrization

HOSTILE = '<img src=x onerror="window.harmed=1"></script><script>window.harmed=2</script>\x1b[31m\u202e&lt;'
VOID = {"meta", "link", "input", "wbr", "path", "circle", "br", "img"}


@dataclass
class Element:
    """An element with its attributes, and what is in it."""

    tag: str
    attributes: dict[str, str | None]
    parent: Element | None = None
    children: list[Element] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of the text within, with single spaces."""
        return " ".join("".join(self.own).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements below of this tag and with these attributes (``class_`` is a word of the class)."""
        found = []
        for child in self.children:
            wanted = all(
                value in (child.attributes.get("class") or "").split()
                if name == "class_"
                else child.attributes.get(name) == value
                for name, value in attributes.items()
            )
            found += [child] * (child.tag == tag and wanted) + child.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def below(self) -> list[Element]:
        return [element for child in self.children for element in (child, *child.below())]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        element: Element | None = self.at
        while element is not None:
            element.own.append(data)
            element = element.parent


def parsed(page: str) -> Element:
    """The page as a tree; an AssertionError where elements do not close in order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.tag}> is not closed"
    return reader.root


class Half(nn.Module):
    """<script>Half of it</script>"""  # a docstring may be hostile too

    def forward(self, raw: Tensor) -> Tensor:
        return raw / 2


class Broken(nn.Module):
    """Raises after its registration."""

    broken = False

    def forward(self, raw: Tensor) -> Tensor:
        if self.broken:
            raise RuntimeError(f"cannot {HOSTILE}")
        return raw


def model_of(seed: int = 0, size: int = 6) -> nn.Module:
    """A model with a tensor in each state: inside, outside, without a set, not finite, not computed; and a tie."""
    torch.manual_seed(seed)
    model = nn.ModuleDict(
        {
            "rotation": nn.Linear(size, size),
            "stable": nn.Linear(size, size, bias=False),
            "steps": nn.Linear(size, size, bias=False),
            "kernel": nn.Conv2d(2, 3, 2),
            "gates": nn.GRU(size, size),
            "outside": nn.Linear(size, size),
            "plain function": nn.Linear(size, size),
            "nan": nn.Linear(size, size),
            "broken": nn.Linear(size, size),
            "vector": nn.Linear(size, size),
            HOSTILE.replace(".", ""): nn.Linear(3, 3),
        }
    )
    sets: dict[str, tuple[str, Any]] = {
        "rotation": ("weight", pf.Orthogonal()),
        "stable": ("weight", pf.Hurwitz(0.5)),
        "steps": ("weight", pf.Schur(0.9)),
        "kernel": ("weight", pf.Flatten(pf.SpectralNorm())),
        "gates": ("weight_hh_l0", pf.Blocks(pf.Orthogonal(), 3)),
        "plain function": ("weight", Half()),
        "nan": ("weight", pf.Symmetric()),
        "broken": ("weight", Broken()),
        "vector": ("bias", pf.Simplex()),
        HOSTILE.replace(".", ""): ("weight", pf.Skew()),
    }
    for name, (tensor, constraint) in sets.items():
        register_parametrization(model[name], tensor, constraint)
    model["tied"] = model["rotation"]
    register_parametrization(model["outside"], "weight", Outside())
    with torch.no_grad():
        model["nan"].parametrizations.weight.original[0, 0] = torch.nan
    model["broken"].parametrizations.weight[0].broken = True
    return model


class Outside(pf.Skew):
    """A constraint whose map misses its set."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw + 1
