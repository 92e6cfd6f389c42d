"""``paraform doctor``: what is wrong with a constrained model."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer

from paraform.cli.opened import visible
from paraform.cli.output import FINDING, AsJson, show, show_json, stop


def doctor(
    factory: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="A module that can be imported, and a function in it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Examine a constrained model, its optimizer and its forward pass, and say what to do about what is found.

    FACTORY is called without arguments. It returns the model, or a tuple of the model and its optimizer, or of model,
    optimizer and a sample for one forward pass (a tensor, a tuple of arguments or a dictionary of named ones); the
    optimizer may be None. This runs your code, found from the current folder as `python -m` finds it.

    Exit code: 0; 1 if there is a warning; 2 where there is no model to examine.

    Example: `paraform doctor mylab.training:build`
    """
    from paraform.model.doctor import doctor as examine

    with redirect_stdout(sys.stderr):  # what your code prints is no part of the report
        report = examine(*_subject(factory))
    if as_json:
        show_json(report.to_dict())
    else:
        show(str(report))
    raise typer.Exit(FINDING if report.warnings else 0)


def _subject(text: str) -> tuple[Any, ...]:
    """What the factory gives: a model, perhaps an optimizer and a sample."""
    from torch.nn import Module
    from torch.optim import Optimizer

    name, colon, path = text.partition(":")
    if not (name and colon and path):
        stop(f"Expected MODULE:FACTORY, as in mylab.training:build, got '{visible(text)}'.")
    if name.endswith(".py") or "/" in name:
        stop(f"Expected the name of a module, as in mylab.training:build, got the file '{visible(name)}'.")
    found: Any = _imported(name)
    for part in path.split("."):
        if not hasattr(found, part):
            stop(f"The module '{visible(name)}' has no '{visible(path)}'; name a function that it has.")
        found = getattr(found, part)
    # a model is callable too, but calling it builds none
    given = found if isinstance(found, Module) else _called(found, text)
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], Module):
        stop(
            f"'{visible(text)}' is to return a model, or (model, optimizer), or (model, optimizer, sample), got "
            f"{_kinds(given)}."
        )
    if len(parts) > 1 and not isinstance(parts[1], Optimizer | None):
        stop(f"'{visible(text)}' is to return an optimizer or None behind its model, got {_kinds(parts[1])}.")
    return parts


def _imported(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    module: ModuleType = _run(lambda: importlib.import_module(name), f"'{visible(name)}' cannot be imported")
    return module


def _called(factory: Any, text: str) -> Any:
    if not callable(factory):
        stop(f"'{visible(text)}' is to be a function that returns a model, got {_kinds(factory)}.")
    return _run(factory, f"'{visible(text)}' failed")


def _run(code: Callable[[], Any], what: str) -> Any:
    try:
        return code()
    except (Exception, SystemExit) as error:  # a script that ends itself would end this command as if all were fine
        _explain(error, what)


def _explain(error: BaseException, what: str) -> NoReturn:
    """The error of the user's code in a sentence, with the line where it arose."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    # the first frames are of this file; an import that fails at once has no others
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    said = visible(" ".join(str(error).split())).rstrip(".")
    stop(f"{what}: {type(error).__name__}: {said}{visible(where)}.")


def _kinds(given: Any) -> str:
    if isinstance(given, tuple):
        return f"({', '.join(type(part).__name__ for part in given)})"
    return type(given).__name__
