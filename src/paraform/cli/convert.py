"""``paraform convert``: torch's state dicts as saved models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paraform.cli.opened import chain_text, step_text, unchanged, visible
from paraform.cli.output import (
    AsJson,
    Column,
    bytes_text,
    printable,
    say,
    shape_text,
    show,
    show_json,
    show_rows,
    stop,
)

if TYPE_CHECKING:
    from paraform.files.torch_chains import Converted
    from paraform.files.torch_steps import OrthogonalMaps

COLUMNS = (Column("tensor", folds=True), Column("shape"), Column("dtype"), Column("was"), Column("chain", folds=True))
# So many tensors are named in a remark.
NAMED = 3


def convert(
    old: Annotated[Path, typer.Argument(help="A state dict of torch.save (.pt, .pth, .bin, .ckpt), or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Where the saved model goes; what is there is replaced at the end.")],
    key: Annotated[
        str | None, typer.Option(help="The entry of OLD that is the state dict, where it holds several.")
    ] = None,
    orthogonal_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MAP",
            help="matrix_exp, cayley or householder, for all orthogonal tensors or for those whose name matches NAME, "
            "a glob. A state dict does not tell; torch's default for the shape is assumed. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a state dict of torch's parametrizations into a file that paraform.load and the other commands read.

    Recognised are weight_norm, spectral_norm and pruning of torch.nn.utils, and weight_norm, spectral_norm and
    orthogonal of torch.nn.utils.parametrizations, by the names and shapes of what they leave. All else is copied. What
    could be several things, or a parametrization of your own, is refused. Nothing in OLD is run.

    What was assumed is said on stderr, and in the JSON as notes.

    Exit code: 0; 2 for a file that cannot be read or converted, or an OUT that cannot be written. Then nothing was
    written.

    Example: `paraform convert model.pt model.safetensors --orthogonal-map "encoder.*=cayley"`
    """
    from paraform.files.convert import convert as convert_file

    maps = _maps(orthogonal_map or [])
    if not out.parent.is_dir():
        stop(
            f"OUT is to be in a folder that exists, but '{printable(out.parent)}' is none; make it, or choose another."
        )
    with unchanged(old):
        found = convert_file(old, out, key=key, orthogonal_maps=maps)
    converted = [each for each in found if each.chain]
    size, copied = out.stat().st_size, len(found) - len(converted)
    if as_json:
        names = {"file": str(old), "out": str(out), "bytes": size}
        show_json(names | {"converted": [_described(each) for each in converted], "copied": copied})
        return
    show(f"{visible(str(out))}: {bytes_text(size)}, {len(converted)} tensors recognised, {copied} copied as they are")
    if converted:
        show("")
        show_rows(COLUMNS, [_row(_described(each)) for each in converted])
    _say_notes(converted)


def _maps(given: list[str]) -> "OrthogonalMaps":
    from paraform.files.torch_steps import OrthogonalMaps

    default: str | None = None
    named: dict[str, str] = {}
    for each in given:
        name, equals, chosen = each.rpartition("=")
        if equals:
            named.pop(name, None)  # the last one counts, also in the order
            named[name] = chosen
        else:
            default = chosen
    try:
        return OrthogonalMaps(default, named)
    except ValueError as error:
        stop(f"--orthogonal-map: {error}")


def _described(each: "Converted") -> dict[str, Any]:
    from paraform.files.recipe import described

    raw = each.stored["original" if "original" in each.stored else "original1"]
    recipe = [described(step) for step in each.chain]
    return {
        "name": each.name,
        "shape": list(raw.shape),
        "dtype": str(raw.dtype).removeprefix("torch."),
        "source": each.source,
        "chain": [step_text(step) for step in recipe],
        "recipe": recipe,
        "keys": list(each.keys),
        "notes": list(each.notes),
    }


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    shape = shape_text(each["shape"])
    return printable(each["name"]), shape, each["dtype"], each["source"], chain_text(each["recipe"])


def _say_notes(converted: list["Converted"]) -> None:
    names: dict[str, list[str]] = {}
    for each in converted:
        for note in each.notes:
            names.setdefault(note, []).append(printable(each.name))
    for note, own in names.items():
        more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
        say(f"{', '.join(own[:NAMED])}{more}: {note}.")
