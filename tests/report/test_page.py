"""The page of a report: its structure, its numbers, and that nothing in it is more than text."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import paraform as pf
from paraform import register_parametrization
from paraform.model.monitor import Monitor
from paraform.report import page as page_module
from paraform.report.page import MOST_POINTS, build_report, collect
from tests.report.pages import HOSTILE, Element, model_of, parsed


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return model_of()


@pytest.fixture(scope="module")
def html(model: nn.Module) -> str:
    names = [name for name, _ in model.named_modules()]
    history = [
        {"step": step, "tensors": {f"{name}.weight": {"residual": 1e-7 * step} for name in names}} for step in range(5)
    ]
    return build_report(model, history, title=HOSTILE)


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parsed(html)


def cells(page: Element) -> dict[str, list[Element]]:
    rows = page.one("table", id="tensors").one("tbody").all("tr")
    return {row.one("th").text: row.all("td") for row in rows}


def numbers_under(page: Element, name: str, title: str) -> list[list[float]]:
    """The table of the figure with this title, by columns."""
    (section,) = [s for s in page.all("details", class_="tensor") if s.one("h3").text == name]
    (figure,) = [figure for figure in section.all("figure") if figure.one("h4").text == title]
    rows = figure.one("tbody").all("tr")
    table = [[float(cell.text.replace(",", "")) for cell in row.all("td")] for row in rows]
    return [list(column) for column in zip(*table, strict=True)]


def test_the_page_needs_nothing_else(html: str, page: Element) -> None:
    loading = {"src", "srcset", "action", "data", "poster", "formaction", "background", "xlink:href", "style"}
    for element in page.below():
        assert not loading & element.attributes.keys(), element.tag
        assert not any(name.startswith("on") for name in element.attributes), element.tag
        assert (element.attributes.get("href") or "#").startswith(("#t", "#main", "#", "data:,"))
    assert not re.search(r"url\(|@import|https?:|//[a-z]+\.", html)
    (policy,) = [meta for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.strip().split(" ", 1) for part in (policy.attributes["content"] or "").split(";"))
    assert allowed["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", allowed["script-src"])
    assert "unsafe" not in "".join(allowed.values())


def test_hostile_names_are_text(html: str, page: Element) -> None:
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert [name for name in cells(page) if "<img src=x" in name and "\\x1b[31m\\u202e&lt;" in name]
    assert "<img src=x" in page.one("h1").text
    assert "</script>" in page.one("head").one("title").text


def test_ids_are_unique_and_every_reference_leads_to_one(page: Element) -> None:
    ids = [element.attributes["id"] for element in page.below() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in page.below():
        for name in ("aria-labelledby", "for", "data-section", "href"):
            for target in (element.attributes.get(name) or "").split():
                if name != "href" or target.startswith("#"):
                    assert target.removeprefix("#") in ids, (element.tag, target)


def test_every_state_is_said_in_words(page: Element) -> None:
    said = {name: row[0].text for name, row in cells(page).items()}
    assert said["rotation.weight"] == said["stable.weight"] == said["kernel.weight"] == "inside"
    assert said["outside.weight"] == said["nan.weight"] == "outside"
    assert said["plain function.weight"] == "no set known"
    assert said["broken.weight"] == "not computed"
    assert cells(page)["broken.weight"][3].text == "Broken()"
    verdict = page.one("p", class_="verdict")
    assert verdict.text.startswith("3 tensors are not inside their sets:")
    assert {link.text for link in verdict.all("a")} == {"outside.weight", "nan.weight", "broken.weight"}


def test_a_model_whose_sets_hold_is_said_to_be_inside() -> None:
    layer = register_parametrization(nn.Linear(3, 3), "weight", pf.Symmetric())
    assert parsed(build_report(layer)).one("p", class_="verdict").text.startswith("All inside their sets")


def test_a_model_without_parametrizations_has_a_page_too() -> None:
    page = parsed(build_report(nn.Linear(3, 3)))
    assert "No tensor of this model is parametrized." in page.one("main").text
    assert not page.all("table", id="tensors")


def test_a_tie_is_named_once_with_its_other_name(page: Element) -> None:
    assert "tied.weight" not in cells(page)
    (section,) = [s for s in page.all("details", class_="tensor") if s.one("h3").text == "rotation.weight"]
    assert "The same tensor is also tied.weight." in section.text


def test_the_counts_are_those_of_the_model(page: Element) -> None:
    counts = {div.one("dt").text: div.one("dd").text for div in page.one("dl", class_="counts").all("div")}
    # 11 chains; biases: rotation, kernel, outside, plain function, nan, broken, the hostile one, and vector's weight;
    # of the GRU its input weight and two biases; and the bias of the tie, which is a key of its own.
    assert counts["Parametrized"] == "11"
    assert counts["Tensors"] == str(11 + 8 + 3 + 1)


@pytest.mark.parametrize("name", ["rotation.weight", "stable.weight", "steps.weight"])
def test_singular_values_are_numpys(page: Element, model: nn.Module, name: str) -> None:
    layer = model.get_submodule(name.removesuffix(".weight"))
    _, before, after = numbers_under(page, name, "Singular values")
    raw, value = layer.parametrizations.weight.original.detach(), layer.weight.detach()
    np.testing.assert_allclose(after, np.linalg.svd(value.double().numpy(), compute_uv=False), rtol=1e-3)
    np.testing.assert_allclose(before, np.linalg.svd(raw.double().numpy(), compute_uv=False), rtol=1e-3, atol=1e-6)


def test_a_kernel_has_the_singular_values_of_its_matrix(page: Element, model: nn.Module) -> None:
    kernel = model["kernel"].weight.detach().double().reshape(3, -1).numpy()
    _, _, after = numbers_under(page, "kernel.weight", "Singular values")
    np.testing.assert_allclose(after, np.linalg.svd(kernel, compute_uv=False), rtol=1e-3)


def test_of_several_matrices_the_ends_are_shown(page: Element, model: nn.Module) -> None:
    gates = model["gates"].parametrizations.weight_hh_l0.original.detach().double().reshape(3, 6, 6).numpy()
    singular = np.linalg.svd(gates, compute_uv=False)
    _, most, least, *_ = numbers_under(page, "gates.weight_hh_l0", "Singular values")
    np.testing.assert_allclose(most, singular.max(0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(least, singular.min(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["rotation.weight", "stable.weight", "steps.weight"])
def test_eigenvalues_are_numpys(page: Element, model: nn.Module, name: str) -> None:
    value = model.get_submodule(name.removesuffix(".weight")).weight.detach().double().numpy()
    real, imaginary, _ = numbers_under(page, name, "Eigenvalues")
    expected = np.linalg.eigvals(value)
    found = np.array(real) + 1j * np.array(imaginary)
    for eigenvalue in expected:
        assert np.abs(found - eigenvalue).min() < 1e-3 * np.abs(expected).max()
    assert len(found) == len(expected)


def test_residual_and_condition_of_the_table_are_those_of_the_value(page: Element, model: nn.Module) -> None:
    row = cells(page)["stable.weight"]
    expected = np.linalg.cond(model["stable"].weight.detach().double().numpy())
    assert float(row[-1].attributes["data-value"] or "") == pytest.approx(expected, rel=1e-3)
    assert row[-2].text == "0"
    nan = cells(page)["nan.weight"]
    assert nan[-2].attributes["data-value"] == nan[-1].attributes["data-value"] == "NaN"
    assert cells(page)["plain function.weight"][-2].attributes["data-value"] == ""


def test_a_circle_is_round_and_the_eigenvalues_of_a_rotation_are_on_it(page: Element) -> None:
    (section,) = [s for s in page.all("details", class_="tensor") if s.one("h3").text == "rotation.weight"]
    (figure,) = [figure for figure in section.all("figure") if figure.one("h4").text == "Eigenvalues"]
    circle = figure.one("svg", class_="plot").one("circle").attributes
    x, y, radius = (float(circle[name] or "") for name in ("cx", "cy", "r"))
    dots = figure.one("svg", class_="plot").one("path", class_="dots").attributes["d"] or ""
    places = [tuple(map(float, place.split())) for place in re.findall(r"M([\d. ]+)h0", dots)]
    assert len(places) == 6
    for across, down in places:
        assert np.hypot(across - x, down - y) == pytest.approx(radius, abs=0.2)


def test_headings_are_in_order_and_what_is_drawn_is_described(page: Element) -> None:
    levels = [int(element.tag[1]) for element in page.below() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for svg in page.all("svg"):
        if svg.attributes.get("aria-hidden") != "true":
            assert svg.attributes["role"] == "img"
            assert svg.one("title").text
            assert svg.one("desc").text
    for control in page.all("input"):
        assert page.one("label", **{"for": control.attributes["id"] or ""}).text
    for figure in page.all("figure"):
        assert figure.all("table")
    assert [page.one(tag).tag for tag in ("header", "main", "footer")]
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("a", class_="skip").attributes["href"] == "#main"
    for region in page.all("div", class_="scroll"):
        assert region.attributes["tabindex"] == "0"
        assert region.attributes.get("aria-label") or region.attributes.get("aria-labelledby")


def test_a_large_matrix_has_few_points_and_none_beyond_the_edge_is_left_out() -> None:
    layer = nn.Linear(300, 300, bias=False)
    register_parametrization(layer, "weight", pf.Hurwitz())
    chain = layer.parametrizations.weight
    entry = collect(layer).entries[0]
    assert entry.eigenvalues is not None
    assert entry.after is not None
    assert len(entry.after.indices) <= MOST_POINTS
    assert (entry.after.indices[0], entry.after.indices[-1]) == (1, 300)
    assert len(entry.eigenvalues.points) <= MOST_POINTS
    expected = np.linalg.eigvals(chain().detach().double().numpy()).real.max()
    assert max(z.real for z in entry.eigenvalues.points) == pytest.approx(expected, abs=1e-4)
    assert f"{MOST_POINTS} of 300 singular values" in build_report(layer)


def test_a_page_of_many_tensors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MOST_DRAWN", 20)
    monkeypatch.setattr(page_module, "POINTS_OF_A_PAGE", 25 * 2 * 30)
    model = nn.ModuleList(nn.Linear(40, 40) for _ in range(25))
    for layer in model:
        register_parametrization(layer, "weight", pf.Symmetric())
    text = build_report(model)
    page = parsed(text)
    assert len(page.all("details", class_="tensor")) == 25
    assert len(page.all("figure")) == 20
    assert all(len(figure.one("tbody").all("tr")) == 30 for figure in page.all("figure"))
    assert "30 of 40 singular values" in page.text
    assert "Figures are drawn for the first 20 tensors." in page.text
    # 500 tensors in 10 MB
    assert len(text) < 20_000 * 25


def test_the_history_of_a_compiled_model_is_found() -> None:
    model = nn.Sequential(register_parametrization(nn.Linear(3, 3), "weight", pf.Skew()))
    model[0] = torch.compile(model[0], backend="eager")
    compiled = torch.compile(model, backend="eager")
    records = [Monitor(compiled).measure()]
    report = collect(compiled, records)
    assert report.not_here == []
    assert report.courses(report.entries[0])["residual"].measured == 1
    assert "from its set. 1 measurement" in build_report(compiled, records)
