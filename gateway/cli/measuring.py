"""What the measuring commands share: the policy, a bar, a clean stop, and a folder that can be written."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.errors import ConfigurationError, Unavailable
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.evaluation.screening import Stop
    from gateway.policy.model import LoadedPolicy

INTERRUPTED = 130  # what a shell gives for Ctrl-C


def load_policy(settings: Settings, department: str) -> LoadedPolicy:
    """Load the policies, and give one. Raises ConfigurationError where there is none of that name."""
    from gateway.policy.load import load_policies
    from gateway.registry import load_registry

    loaded = load_policies(settings.policies_dir, load_registry().configs())
    if department not in loaded:
        known = ", ".join(f"`{name}`" for name in loaded)
        raise ConfigurationError(f"{settings.policies_dir}: holds no policy `{department}`; known: {known}")
    return loaded[department]


@contextlib.contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Take the first Ctrl-C as the wish to stop; the second ends the process as usual."""

    def wish(_signal: int, _frame: object) -> None:
        stop.wanted = True
        signal.signal(signal.SIGINT, before)
        click.echo("\nstopping after the questions that have begun; Ctrl-C again to drop them", err=True)

    before = signal.signal(signal.SIGINT, wish)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def bar(total: int, name: str, unit: str) -> Iterator[Any]:
    """Show a bar with an estimate on a terminal, and nothing elsewhere; gives what counts it up."""
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit=unit, disable=None, leave=False) as shown:
        yield shown.update


def writable(out: Path, name: str) -> None:
    """Make the folder, and the file of that name in it. Raises Unavailable where it can not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        raise Unavailable(f"{out}: can not be written ({why}); name another folder with --out") from None
