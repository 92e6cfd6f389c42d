"""``paraform --version``."""

from typing import Annotated

import typer


def _print(wanted: bool) -> None:
    if wanted:
        from paraform import __version__

        typer.echo(f"paraform {__version__}")
        raise typer.Exit


def version(
    wanted: Annotated[
        bool, typer.Option("--version", callback=_print, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options that stand before a command."""
