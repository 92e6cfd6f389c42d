"""``paraform check``: whether the values of a saved model are in their sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paraform.cli.opened import chain_text, measured, unchanged, visible
from paraform.cli.output import FINDING, AsJson, Column, number_text, printable, show, show_json, show_rows, watched

if TYPE_CHECKING:
    from paraform.files import SavedTensor

INSIDE, UNKNOWN = "inside", "unknown"
COLUMNS = (
    Column("tensor", folds=True),
    Column("chain", folds=True),
    Column("residual", is_number=True),
    Column("finding", folds=True),
)


def check(
    file: Annotated[Path, typer.Argument(help="A file of paraform.save.")],
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="The largest residual that passes, as `inspect` shows it. Without: rounding error."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that each value of a saved model is in its set, and that no number is broken.

    A value passes if its residual is no more than rounding in its precision, at its size, explains: each set knows
    that of itself. With --tolerance the residual itself is compared.
    It must be finite as well. Plain tensors must have no nan (an infinite mask is none).
    Chains whose last parametrization knows no set are counted, and only have to be finite.

    Exit code: 0; 1 where a value is outside, not finite or cannot be computed; 2 for a file that cannot be read.

    Example: `paraform check model.safetensors --tolerance 1e-5`
    """
    from paraform.files import SavedFile

    with unchanged(file), SavedFile(file) as saved:
        own = saved.untied()
        checked = [judged(tensor, tolerance) for tensor in watched(own, "tensors", len(own))]
    found = [each for each in checked if each["verdict"] not in (INSIDE, UNKNOWN)]
    if as_json:
        findings = [each["name"] for each in found]
        show_json({"file": str(file), "tolerance": tolerance, "findings": findings, "tensors": checked})
    else:
        if found:
            show_rows(COLUMNS, [_row(each) for each in found])
        show(f"{visible(str(file))}: {sentence(checked)}")
    raise typer.Exit(FINDING if found else 0)


def judged(tensor: "SavedTensor", tolerance: float | None) -> dict[str, Any]:
    """What is to be said of one tensor, as data; its verdict is one of ``inside``, ``outside``, ``not finite``,
    ``unknown`` (there is no set that is known) and ``error`` (the value cannot be computed)."""
    data: dict[str, Any] = {"name": tensor.name, "is_parametrized": tensor.is_parametrized}
    if not tensor.is_parametrized:
        return data | {"verdict": "not finite" if tensor.value().isnan().any() else UNKNOWN}
    data["recipe"] = tensor.recipe
    found = measured(tensor)
    if isinstance(found, str):
        return data | {"verdict": "error", "error": found}
    data |= {"residual": found.residual, "is_inside": found.is_inside, "is_finite": found.is_finite}
    if not found.is_finite:
        return data | {"verdict": "not finite"}
    if found.residual is None:
        return data | {"verdict": UNKNOWN}
    passes = found.is_inside if tolerance is None else found.residual <= tolerance
    return data | {"verdict": INSIDE if passes else "outside"}


def sentence(checked: list[dict[str, Any]]) -> str:
    """What was found, in a line."""
    parametrized = [each["verdict"] for each in checked if each["is_parametrized"]]
    plain = [each["verdict"] for each in checked if not each["is_parametrized"]]
    parts = [f"{parametrized.count(INSIDE)} of {len(parametrized)} parametrized tensors inside their sets"]
    if UNKNOWN in parametrized:
        parts.append(f"{parametrized.count(UNKNOWN)} of no set that is known")
    parts.append(f"{plain.count(UNKNOWN)} of {len(plain)} plain tensors without nan")
    return "; ".join(parts)


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    return (
        printable(each["name"]),
        chain_text(each["recipe"]) if each["is_parametrized"] else "plain",
        number_text(each.get("residual")),
        each.get("error", each["verdict"]),
    )
