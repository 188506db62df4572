"""How commands about batches tell what went wrong: in one line, with exit code 1."""

from __future__ import annotations

from typing import IO, Any

import click


class Failed(click.ClickException):
    """A failure that is told in one line, with exit code 1. `status` is that of the answer, where there was one."""

    exit_code = 1

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as the other commands print errors."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class Away(Failed):
    """The gateway does not answer, or not now: the same may work in a moment."""


class Slow(Failed):
    """The gateway takes no more for now: it asks to wait `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, 429)
        self.seconds = seconds


def plain(text: object) -> str:
    """Give text of a server so that it can not move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def say(text: str) -> None:
    """Say something to the person at the terminal, beside what a script reads."""
    click.echo(text, err=True)
