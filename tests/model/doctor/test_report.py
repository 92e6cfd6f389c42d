"""How findings are told: as text, as HTML, as JSON data."""

import json

from torch import nn

import paraform as pf
from paraform import register_parametrization
from paraform.model.doctor import TITLES, Finding, Report, doctor

HOSTILE = Finding("PF401", "warning", "<b>\x1b[2J</b>", "1 < 2 & so on.", 'Say "no".')
NOTE = Finding("PF305", "note", "0.weight", "Skew(), step 0, is off.", "Switch it on.")


def test_nothing_found_says_how_much_was_looked_at() -> None:
    assert str(Report([], 12)) == "Nothing found. 12 parametrized tensors looked at."
    assert Report([], 1)._repr_html_() == "<p>Nothing found. 1 parametrized tensor looked at.</p>"
    assert not Report([], 1)


def test_a_report_is_a_sequence_with_warnings_first() -> None:
    report = Report([NOTE, HOSTILE], 2)
    assert list(report) == [HOSTILE, NOTE]
    assert (len(report), report[1], report[:1], NOTE in report) == (2, NOTE, (HOSTILE,), True)
    assert report.warnings == (HOSTILE,)
    assert report.codes == ("PF305", "PF401")


def test_text_has_a_paragraph_a_finding_and_no_control_characters() -> None:
    text = str(Report([NOTE, HOSTILE], 2))
    first, second, last = text.split("\n\n")
    assert first.splitlines()[0] == f"PF401 warning: {TITLES['PF401']}: <b>\\x1b[2J</b>"
    assert second == "PF305 note: A step that is switched off: 0.weight\n  Skew(), step 0, is off.\n  " + (
        "Remedy: Switch it on."
    )
    assert last == "1 warning, 1 note. 2 parametrized tensors looked at."
    assert repr(Report([NOTE], 1)) == str(Report([NOTE], 1))


def test_html_is_escaped() -> None:
    page = Report([HOSTILE], 1)._repr_html_()
    assert "&lt;b&gt;\\x1b[2J&lt;/b&gt;" in page
    assert "1 &lt; 2 &amp; so on." in page
    assert "<b>" not in page


def test_to_dict_goes_through_json() -> None:
    data = Report([HOSTILE], 3).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["looked_at"] == 3
    assert data["findings"] == [
        {
            "code": "PF401",
            "severity": "warning",
            "title": TITLES["PF401"],
            "tensor": "<b>\x1b[2J</b>",
            "what": "1 < 2 & so on.",
            "remedy": 'Say "no".',
        }
    ]


def test_a_real_one_names_the_tensor_as_the_plain_state_dict_does() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    register_parametrization(model[1], "weight", pf.Skew())
    model[1].parametrizations.weight.switch_off(0)
    (finding,) = doctor(model)
    assert finding.tensor == "1.weight"
    assert "switch_on(0)" in finding.remedy
