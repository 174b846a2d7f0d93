"""The command line: one file a verb, which computes nothing that the library can't.

Results go to stdout, progress and everything else to stderr. Exit codes: 0 for success, 1 for failure, 2 for misuse,
130 when interrupted. Verbs import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from satmask import __version__
from satmask.cli import (
    average,
    calibrate,
    demo,
    inspect,
    join,
    masks,
    models,
    polygons,
    predict,
    quantize,
    register,
    score,
    split,
    submit,
    train,
    tune,
    view,
)
from satmask.cli.output import complain
from satmask.errors import SatmaskError, SettingError

# Plain help: Rich's would take a tenth of a second longer.
app = typer.Typer(
    name="satmask",
    help="Satellite image in, masks and map features out.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    demo.demo,
    inspect.inspect,
    split.split,
    join.join,
    register.register,
    train.train,
    average.average,
    tune.tune,
    quantize.quantize,
    calibrate.calibrate,
    models.models,
    predict.predict,
    polygons.polygons,
    score.score,
    submit.submit,
    view.view,
):
    app.command()(verb)
app.add_typer(masks.masks)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"satmask {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Satellite image in, masks and map features out."""
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `satmask`; those of the process by default.

    Returns:
        The exit code.
    """
    try:
        command = typer.main.get_command(app)
        code = command.main(None if arguments is None else list(arguments), "satmask", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read our results has seen enough. What Python still wants to flush at exit has to go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if os.environ.get("SATMASK_DEBUG"):
            raise
        return _explain(error)
    if code == 130:
        complain("interrupted")
    return int(code or 0)


def _explain(error: Exception) -> int:
    """Say in one line what went wrong, and choose the exit code."""
    if isinstance(error, SatmaskError):
        complain(f"error: {error}")
        return 2 if isinstance(error, SettingError) else 1
    if hasattr(error, "format_message"):  # misuse: Click's own errors, whose base class Typer doesn't export
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "satmask"
        complain(f"error: {error.format_message().rstrip('.')}. See '{where} --help'.")
        return 2
    if isinstance(error, typer.Abort):
        complain("interrupted")
        return 130
    if isinstance(error, OSError) and error.strerror:
        where = f" for {error.filename}" if error.filename else ""
        complain(f"error: {error.strerror}{where}. SATMASK_DEBUG=1 shows where.")
        return 1
    text = (str(error).strip().splitlines() or ["no message"])[0]
    complain(f"error: unexpected {type(error).__name__}: {text:.300}. SATMASK_DEBUG=1 shows where.")
    return 1
