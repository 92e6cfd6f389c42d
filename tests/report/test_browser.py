"""The report in a real browser: sorting, filter, colours, narrow screens, and that it asks the network for nothing."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from torch import nn

import paraform as pf
from paraform import register_parametrization
from paraform.report.page import build_report
from tests.report.browser import MISSING, browser, colours, size
from tests.report.contrast import TEXTS, contrast
from tests.report.pages import HOSTILE, model_of

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

UNKNOWN = "\N{EN DASH}"
ENOUGH, ENOUGH_OF_LARGE = 4.5, 3.0  # contrast of text, and of marks and icons: WCAG 2.2, 1.4.3 and 1.4.11, level AA


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    names = ("rotation.weight", "stable.weight", HOSTILE)
    history = [
        {"step": step, "tensors": {name: {"residual": 10.0**-step, "raw_norm": 1.0} for name in names}}
        for step in range(5)
    ]
    path.write_text(build_report(model_of(), history, title=HOSTILE), encoding="utf-8")
    return path


@pytest.fixture
def page(driver: Chrome, file: Path) -> Chrome:
    size(driver, 1280, 900)
    colours(driver, "light")
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(file.as_uri())
    return driver


def column(page: Chrome, name: str) -> list[str]:
    """The cells of a column that are seen, from above."""
    return page.execute_script(
        """const table = document.getElementById("tensors");
        const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[at].textContent.trim());
        """,
        name,
    )


def header(page: Chrome, name: str) -> WebElement:
    return page.find_element(By.XPATH, f"//table[@id='tensors']/thead//button[.='{name}']")


def direction(page: Chrome, name: str) -> str | None:
    return header(page, name).find_element(By.XPATH, "..").get_attribute("aria-sort")


def rank(text: str) -> tuple[int, float]:
    """The order that is promised: numbers, then infinity, then nan."""
    number = float(text.replace(",", ""))
    return (1, 0.0) if math.isnan(number) else (0, number)


@pytest.mark.parametrize("name", ["Residual", "Condition", "Trained", "Dimension"])
def test_a_click_sorts_numbers_by_size_with_nan_above_and_unknown_last(page: Chrome, name: str) -> None:
    before = column(page, name)
    assert UNKNOWN in before
    for order, reverse in (("ascending", False), ("descending", True)):
        header(page, name).click()
        assert direction(page, name) == order
        after = column(page, name)
        known = [text for text in after if text != UNKNOWN]
        assert sorted(after) == sorted(before)
        assert after[len(known) :] == [UNKNOWN] * (len(after) - len(known))
        ranks = [rank(text) for text in known]
        assert ranks == sorted(ranks, reverse=reverse)
    header(page, name).click()
    assert direction(page, name) == "none"
    assert column(page, name) == before


def test_the_residuals_include_a_nan(page: Chrome) -> None:
    assert "nan" in column(page, "Residual")


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_a_key_on_a_header_sorts(page: Chrome, key: str) -> None:
    button = header(page, "State")
    page.execute_script("arguments[0].focus()", button)
    page.switch_to.active_element.send_keys(key)
    assert direction(page, "State") == "ascending"
    assert column(page, "State") == sorted(column(page, "State"))
    page.switch_to.active_element.send_keys(key)
    assert direction(page, "State") == "descending"
    assert page.find_element(By.ID, "status").text.endswith("by state, descending")


def test_only_one_column_is_said_to_be_sorted(page: Chrome) -> None:
    header(page, "Residual").click()
    header(page, "Tensor").click()
    assert direction(page, "Residual") == "none"
    assert direction(page, "Tensor") == "ascending"


def test_the_keyboard_reaches_the_headers_and_focus_is_seen(page: Chrome) -> None:
    reached = []
    for _ in range(30):
        page.switch_to.active_element.send_keys(Keys.TAB)
        focused = page.switch_to.active_element
        reached.append(focused.text)
        style, width = page.execute_script(
            "const style = getComputedStyle(arguments[0]); return [style.outlineStyle, style.outlineWidth]", focused
        )
        assert style != "none", focused.get_attribute("outerHTML")
        assert width != "0px", focused.get_attribute("outerHTML")
    assert reached[0] == "Skip to the tensors"
    assert {"Tensor", "Residual", "Condition"} <= set(reached)


def test_the_filter_hides_what_does_not_match_in_the_table_and_below(page: Chrome) -> None:
    field = page.find_element(By.ID, "filter")
    field.send_keys("ORTHOGONAL")
    assert column(page, "Tensor") == ["rotation.weight", "gates.weight_hh_l0"]
    sections = [section for section in page.find_elements(By.CSS_SELECTOR, ".tensor") if section.is_displayed()]
    assert len(sections) == 2
    assert page.find_element(By.ID, "status").text.startswith("2 of 11 shown")
    field.clear()
    field.send_keys("nothing has this name")
    assert column(page, "Tensor") == []
    assert page.find_element(By.ID, "none").is_displayed()
    field.clear()
    field.send_keys(" ", Keys.BACKSPACE)
    assert len(column(page, "Tensor")) == 11


def test_a_link_of_the_table_unfolds_its_section(page: Chrome) -> None:
    page.execute_script("for (const tensor of document.querySelectorAll('.tensor')) tensor.open = false")
    link = page.find_element(By.LINK_TEXT, "stable.weight")
    for _ in range(2):
        link.click()
        section = page.find_element(By.CSS_SELECTOR, page.execute_script("return location.hash"))
        assert page.execute_script("return arguments[0].closest('details').open", section)
        page.execute_script("arguments[0].closest('details').open = false", section)
        page.execute_script("window.scrollTo(0, 0)")


def test_nothing_that_a_file_has_named_runs(page: Chrome) -> None:
    assert page.execute_script("return window.harmed") is None
    assert page.find_elements(By.TAG_NAME, "img") == []
    assert any("<img src=x" in name for name in column(page, "Tensor"))


def test_the_policy_stops_a_script_that_would_be_put_in(page: Chrome) -> None:
    page.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.harmed=3\">');"
        "const script = document.createElement('script'); script.textContent = 'window.harmed=4';"
        "document.body.append(script)"
    )
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert page.execute_script("return window.harmed") is None


def test_the_browser_complains_of_nothing_and_asks_for_nothing(page: Chrome, file: Path) -> None:
    header(page, "Residual").click()
    page.find_element(By.ID, "filter").send_keys("a")
    page.execute_script("window.dispatchEvent(new Event('beforeprint')); window.dispatchEvent(new Event('afterprint'))")
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}


def test_the_contrast_is_computed_as_wcag_says() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_contrast(page: Chrome, scheme: str) -> None:
    colours(page, scheme)
    page.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
    seen = page.execute_script(TEXTS)
    assert len(seen) > 8
    for colour, behind, text in seen:
        least = ENOUGH_OF_LARGE if text == "mark" else ENOUGH
        assert contrast(colour, behind) >= least, (colour, behind, text)


def test_the_dark_page_has_other_colours(page: Chrome) -> None:
    shades = []
    for scheme in ("light", "dark"):
        colours(page, scheme)
        body = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        line = page.find_element(By.CSS_SELECTOR, ".line.after").value_of_css_property("stroke")
        shades.append((body, line))
    (light, light_line), (dark, dark_line) = shades
    assert contrast(light.replace("rgba", "rgb").replace(", 1)", ")"), "rgb(0, 0, 0)") > 15
    assert contrast(dark.replace("rgba", "rgb").replace(", 1)", ")"), "rgb(255, 255, 255)") > 15
    assert light_line != dark_line


@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(page: Chrome, width: int) -> None:
    size(page, width, 800)
    page.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
    scrolled, room = page.execute_script(
        "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert scrolled == room <= width
    wide = page.execute_script(
        """return [...document.querySelectorAll("body *")].filter((element) =>
        !element.closest(".scroll, .unseen") &&
        element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).length"""
    )
    assert wide == 0


def test_the_text_of_figures_is_readable_on_a_phone(page: Chrome) -> None:
    size(page, 400, 800)
    heights = page.execute_script(
        "return [...document.querySelectorAll('.plot')].map((svg) => svg.getBoundingClientRect().width /"
        " svg.viewBox.baseVal.width * parseFloat(getComputedStyle(svg.querySelector('text')).fontSize))"
    )
    assert min(heights) >= 10


def test_the_labels_of_figures_do_not_lie_on_one_another(driver: Chrome, tmp_path: Path) -> None:
    sizes = (1.8e-7, 1.8e-29, 1.8e29, 1.2e5, 0.3)
    model = nn.Sequential(*(register_parametrization(nn.Linear(2, 2), "weight", pf.Skew()) for _ in sizes))
    history = [
        {
            "step": 12345678 * step,
            "tensors": {f"{at}.weight": dict.fromkeys(("residual", "raw_norm"), size) for at, size in enumerate(sizes)},
        }
        for step in range(3)
    ]
    file = tmp_path / "report.html"
    file.write_text(build_report(model, history), encoding="utf-8")
    size(driver, 1280, 900)
    driver.get(file.as_uri())
    overlapping = driver.execute_script(
        """const found = [];
        for (const plot of document.querySelectorAll(".plot")) {
          const texts = [...plot.querySelectorAll("text")];
          for (const one of texts) for (const other of texts.slice(texts.indexOf(one) + 1)) {
            const [a, b] = [one, other].map((text) => text.getBoundingClientRect());
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (wide > 1.5 && high > 1.5) found.push(`${one.textContent} | ${other.textContent}: ${wide}`);
          }
        }
        return found"""
    )
    assert overlapping == []


def test_without_scripts_it_is_a_plain_table(driver: Chrome, file: Path) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(file.as_uri())
        assert driver.find_elements(By.TAG_NAME, "button") == []
        assert not driver.find_element(By.ID, "filter").is_displayed()
        rows = driver.find_elements(By.CSS_SELECTOR, "#tensors tbody tr")
        assert len(rows) == 11
        assert rows[0].is_displayed()
        assert driver.find_element(By.CSS_SELECTOR, ".tensor figure svg").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_who_wants_less_motion_gets_none(page: Chrome) -> None:
    behaviours = []
    for motion in ("reduce", "no-preference"):
        colours(page, "light", motion)
        behaviours.append(page.find_element(By.TAG_NAME, "html").value_of_css_property("scroll-behavior"))
    assert behaviours == ["auto", "smooth"]


def test_print_shows_every_section_and_no_tools(page: Chrome) -> None:
    page.execute_script("for (const tensor of document.querySelectorAll('.tensor')) tensor.open = false")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
        assert all(section.get_attribute("open") for section in page.find_elements(By.CSS_SELECTOR, ".tensor"))
        assert not page.find_element(By.ID, "filter").is_displayed()
        page.execute_script("window.dispatchEvent(new Event('afterprint'))")
        assert not any(section.get_attribute("open") for section in page.find_elements(By.CSS_SELECTOR, ".tensor"))
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
