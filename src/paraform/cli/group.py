"""The group of all commands: what a user can do wrong ends in one sentence on stderr and exit code 2."""

from typing import Any

from typer.core import TyperGroup

from paraform.cli.output import printable, stop
from paraform.files.errors import FileError


class Commands(TyperGroup):
    """Commands in the order of their registration, whose errors about files are sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FileError as error:
            stop(str(error))
        except BrokenPipeError:
            raise  # whoever read the output has left; typer ends quietly
        except OSError as error:
            if error.strerror is None:
                raise
            if error.filename is None:
                stop(f"Reading or writing failed: {error.strerror}.")
            stop(f"The file '{printable(error.filename)}' cannot be used: {error.strerror}.")
