"""``paraform inspect``: what is in a saved model."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paraform.cli.opened import chain_text, measured, step_text, unchanged, visible
from paraform.cli.output import (
    FINDING,
    AsJson,
    Column,
    bytes_text,
    number_text,
    printable,
    say,
    shape_text,
    show,
    show_json,
    show_rows,
    watched,
)

if TYPE_CHECKING:
    from paraform.files import SavedFile, SavedTensor

NAMED = (Column("tensor", folds=True), Column("shape"), Column("dtype"))
TIED = (Column("tensor", folds=True), Column("is", folds=True))
CHAIN = Column("chain", folds=True)
STORED = Column("stored", is_number=True)
MEASURED = tuple(Column(title, is_number=True) for title in ("dof", "stored", "residual", "condition"))


def inspect(
    file: Annotated[Path, typer.Argument(help="A file of paraform.save.")],
    values: Annotated[
        bool,
        typer.Option(help="Compute the values, for residual and condition; else only the header is read."),
    ] = True,
    everything: Annotated[bool, typer.Option("--all", help="List the plain tensors too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is in a saved model, value by value, without the model's code.

    For each parametrized tensor: its chain; the true dimension of its set (dof) next to how many numbers are stored;
    its residual, which is how far it is from the set of its last parametrization; and its condition number.
    One tensor is in memory at a time. A dash stands for what is not known, `null` in JSON also for what is not finite.

    Exit code: 0; 1 where a value cannot be computed; 2 for a file that cannot be read.

    Example: `paraform inspect model.safetensors --no-values`
    """
    from paraform.files import SavedFile

    with unchanged(file), SavedFile(file) as saved:
        document = described(saved, values)
    if as_json:
        show_json(document)
    else:
        display(document, values, everything)
    failed = [each for each in document["parametrized"] if "error" in each]
    if not as_json:
        for each in failed:
            say(each["error"])
    raise typer.Exit(FINDING if failed else 0)


def described(saved: "SavedFile", values: bool) -> dict[str, Any]:
    """What is in a file, as data."""
    own = saved.untied()
    parametrized = [tensor for tensor in own if tensor.is_parametrized]
    return {
        "file": str(saved.path),
        "bytes": saved.path.stat().st_size,
        "version": saved.version,
        "parametrized": [
            _parametrized(tensor, values)
            for tensor in (watched(parametrized, "values", len(parametrized)) if values else parametrized)
        ],
        "plain": [_named(tensor) for tensor in own if not tensor.is_parametrized],
        "ties": saved.ties,
    }


def display(document: dict[str, Any], values: bool, everything: bool) -> None:
    """Print what is in a file for a reader."""
    parametrized, plain, ties = document["parametrized"], document["plain"], document["ties"]
    show(
        f"{visible(document['file'])}: {bytes_text(document['bytes'])}, written by paraform "
        f"{visible(document['version'])}; {_count(len(parametrized), 'parametrized tensor')}, {len(plain)} plain"
    )
    if parametrized:
        show("")
        show_rows((*NAMED, CHAIN, *(MEASURED if values else (STORED,))), [_row(each, values) for each in parametrized])
    if plain:
        numbers = sum(math.prod(each["shape"]) for each in plain)
        show(f"\nplain: {_count(len(plain), 'tensor')}, {numbers:,} numbers" + ("" if everything else "; see --all"))
        if everything:
            show_rows(NAMED, [_names(each) for each in plain])
    if ties:
        show(f"\ntied: {len(ties)}")
        show_rows(TIED, [(printable(name), printable(stored)) for name, stored in ties.items()])


def _named(tensor: "SavedTensor") -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _parametrized(tensor: "SavedTensor", values: bool) -> dict[str, Any]:
    stored = {
        key: {"shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
        for key, (shape, dtype) in tensor.stored.items()
    }
    data = _named(tensor) | {
        "chain": [step_text(step) for step in tensor.recipe],
        "recipe": tensor.recipe,
        "stored": stored,
        "stored_numbers": sum(math.prod(shape) * (1 + dtype.is_complex) for shape, dtype in tensor.stored.values()),
    }
    if not values:
        return data
    found = measured(tensor)
    if isinstance(found, str):
        return data | {"error": found}
    fields = ("dof", "trained", "raw_norm", "residual", "is_inside", "condition", "is_finite")
    return data | {field: getattr(found, field) for field in fields}


def _row(each: dict[str, Any], values: bool) -> tuple[str, ...]:
    stored = f"{each['stored_numbers']:,}"
    begin = (*_names(each), chain_text(each["recipe"]))
    if not values:
        return (*begin, stored)
    dof = each.get("dof")
    return (
        *begin,
        "-" if dof is None else f"{dof:,}",
        stored,
        number_text(each.get("residual")),
        number_text(each.get("condition")),
    )


def _names(each: dict[str, Any]) -> tuple[str, str, str]:
    return printable(each["name"]), shape_text(each["shape"]), each["dtype"]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
