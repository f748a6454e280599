"""Verbs: a command with commands of its own, whose usage errors are told as all others are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from diptych.cli import screen
from diptych.errors import InterruptedRunError, UsageError, unknown

_Misuse: Any = typer.BadParameter.__base__  # click's UsageError, of the copy of click that this typer uses


class Verbs(TyperGroup):
    """Tells an unknown verb or option with the nearest name and all there are; without a verb shows the help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in typer."""
        if not args:
            screen.out(ctx.get_help())
            raise typer.Exit(UsageError.exit_code)
        with _in_our_words():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in typer."""
        if self.get_command(ctx, args[0]) is None:
            raise UsageError(unknown(f"{ctx.command_path} verb", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As in typer."""
        with _in_our_words():
            return super().invoke(ctx)


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except _Misuse as error:
        raise UsageError(_told(error)) from error
    except KeyboardInterrupt as error:
        raise InterruptedRunError("stopped by Ctrl-C; what was whole by then is kept") from error


def _told(error: Any) -> str:
    """What typer found, and where the command says what it takes."""
    command = None if error.ctx is None else error.ctx.command
    if command is not None and hasattr(error, "possibilities"):  # an option that is not there
        options = [name for param in command.params for name in param.opts if name.startswith("--")]
        return unknown("option", error.option_name, [*options, "--help"])
    where = "" if error.ctx is None else f" Run {error.ctx.command_path} --help to see what it takes."
    return error.format_message().rstrip(".") + "." + where
