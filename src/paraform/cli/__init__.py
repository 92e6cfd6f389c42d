"""The command line: ``paraform <command>``, one file a command."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

# What the `tools` extra brings. It is imported when a command runs, so that `import paraform` stays light.
TOOLS = {"jinja2", "matplotlib", "rich", "safetensors", "sklearn", "typer"}


def app() -> "typer.Typer":
    """The command line as a typer application."""
    import typer

    from paraform.cli.demo import demo
    from paraform.cli.report import report

    commands = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
    # With a callback typer keeps `demo` a subcommand, even while it is the only one.
    commands.callback(help="Structure for the parameters of PyTorch models.")(lambda: None)
    commands.command()(demo)
    commands.command()(report)
    return commands


def main() -> None:
    """Run the command line; without the `tools` extra, say in one sentence how to get it and exit with 1."""
    try:
        app()()
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in TOOLS:
            raise
        sys.exit(f'paraform\'s commands need {package}, which is not installed: pip install "paraform[tools]"')
