"""`diptych`: its verbs, and how every error leaves the process."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from diptych import __version__
from diptych.cli import (
    data,
    demo,
    doctor,
    evaluate,
    finetune,
    plan,
    predict,
    recipe,
    regions,
    report,
    reproduce,
    screen,
    train,
    weights,
)
from diptych.cli.verbs import Verbs
from diptych.errors import DiptychError

app = typer.Typer(
    name="diptych",
    cls=Verbs,
    help="Train vision-and-language models on pictures and texts, and see what they learned.",
    epilog="First time here? Run: diptych demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(data.data_app, name="data")
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("plan")(plan.plan)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("reproduce")(reproduce.reproduce)
app.add_typer(recipe.recipe_app, name="recipe")
app.add_typer(regions.regions_app, name="regions")
app.add_typer(report.report_app, name="report")
app.add_typer(weights.weights_app, name="weights")


def _show_version(asked: bool) -> None:
    if asked:
        screen.out(f"diptych {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """What holds for every verb."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    `--debug` may stand anywhere on the line; without it no error shows a traceback.

    Threads of torch that wait for each other sleep: on two cores, one of them shared with a process that decodes,
    spinning made a training step four times as slow.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        app(words, prog_name="diptych")
    except DiptychError as error:
        _tell(error, str(error), debug)
        sys.exit(error.exit_code)
    except OSError as error:
        _tell(error, _of_the_system(error), debug)
        sys.exit(1)
    except Exception as error:
        _tell(error, _bug(error), debug)
        sys.exit(1)


def _of_the_system(error: OSError) -> str:
    """What the system refused, and what to do; libraries raise OSError without a number for mistakes of their own."""
    if error.errno is None or error.strerror is None:
        return _bug(error)
    paths = " and ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = "Make room there, or choose a folder on another disk; the same command then does it again"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "Choose a folder that you may write to, or ask for the right to this one"
        case errno.ENOMEM:
            advice = "Close other programs, or choose smaller batches"
        case errno.EMFILE | errno.ENFILE:
            advice = "Raise the number of open files: ulimit -n 4096"
        case _:
            advice = "Check the path"
    return f"{paths or 'a file could not be read or written'}: {error.strerror}. {advice}."


def _bug(error: Exception) -> str:
    bug = "This looks like a bug of diptych; run the command again with --debug and report what it prints."
    return f"{type(error).__name__}: {error}\n{bug}"


def _tell(error: Exception, message: str, debug: bool) -> None:
    rank = os.environ.get("RANK", "0")  # of several processes that torchrun began
    if debug:
        traceback.print_exception(error)
    else:
        screen.error(message if rank == "0" else f"(process {rank}) {message}")


if __name__ == "__main__":
    main()
