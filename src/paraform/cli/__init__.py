"""The command line: ``paraform <command>``, one file a command."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

# What the `tools` extra brings. It is imported when a command runs, so that `import paraform` stays light.
TOOLS = {"jinja2", "matplotlib", "rich", "safetensors", "sklearn", "typer"}

SAVED, MODELS = "Saved models", "Models"


def app() -> "typer.Typer":
    """The command line as a typer application."""
    import typer

    from paraform.cli.check import check
    from paraform.cli.convert import convert
    from paraform.cli.demo import demo
    from paraform.cli.doctor import doctor
    from paraform.cli.fold import fold
    from paraform.cli.group import Commands
    from paraform.cli.inspect import inspect
    from paraform.cli.report import report
    from paraform.cli.version import version

    commands = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
    commands.callback(help="Structure for the parameters of PyTorch models.")(version)
    # In the order in which `paraform --help` lists them.
    commands.command(rich_help_panel=SAVED)(inspect)
    commands.command(rich_help_panel=SAVED)(check)
    commands.command(rich_help_panel=SAVED)(fold)
    commands.command(rich_help_panel=SAVED)(report)
    commands.command(rich_help_panel=SAVED)(convert)
    commands.command(rich_help_panel=MODELS)(doctor)
    commands.command(rich_help_panel=MODELS)(demo)
    return commands


def main() -> None:
    """Run the command line; without the `tools` extra, say in one sentence how to get it and exit with 2."""
    try:
        app()()
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in TOOLS:
            raise
        how = f'{package}, which is not installed: pip install "paraform[tools]"'
        print(f"paraform's commands need {how}", file=sys.stderr)
        sys.exit(2)  # for 1 is a finding, and nothing was looked at
