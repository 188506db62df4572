"""What commands about batches are told: where the gateway is, with which key, and what is said of all lines.

The key comes from GATEWAY_API_KEY or from a file, never from the command line, where other users of the machine and the
shell's history would see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from yarl import URL

from gateway.cli.batch_failures import Failed, plain
from gateway.errors import InvalidRequest
from gateway.wire.said import checked as checked_word

DEFAULT_URL = "http://127.0.0.1:8080"

_BATCH = re.compile(r"batch_[0-9a-f]{32}")
_F = TypeVar("_F", bound=Callable[..., Any])


def connection(function: _F) -> _F:
    """Add the options that say where the gateway is, and where the key."""
    function = click.option(
        "--key-file", type=click.Path(path_type=Path), help="A file that holds the API key [GATEWAY_API_KEY]."
    )(function)
    return click.option("--url", help=f"The gateway's address [GATEWAY_URL, {DEFAULT_URL}].")(function)


def batch_id(text: str) -> str:
    """Check the id of a batch before it becomes part of an address. Raises Failed."""
    if _BATCH.fullmatch(text) is None:
        raise Failed(f"`{plain(text)[:80]}` is no id of a batch; `gateway batch list` shows them")
    return text


def address_of(text: str) -> URL:
    """Read the gateway's address; that of its API (``…/v1``) is taken as well."""
    wanted = "give the gateway's address, such as `http://127.0.0.1:8080`, with --url or GATEWAY_URL"
    try:
        url = URL(text.strip().rstrip("/"))
    except ValueError:
        raise Failed(f"the address is malformed; {wanted}") from None
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise Failed(f"`{plain(text)}` is no address; {wanted}")
    if url.user is not None or url.password is not None:
        raise Failed(f"the address holds a user or a password; {wanted}, and the key in GATEWAY_API_KEY")
    return url.parent if url.name == "v1" else url


def key_of(file: Path | None) -> str:
    """Read the API key out of a file, else out of the environment. Raises Failed where there is none."""
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as exc:
            raise Failed(f"{file}: can not be read ({(exc.strerror or type(exc).__name__).lower()})") from None
        where = str(file)
    else:
        key, where = os.environ.get("GATEWAY_API_KEY", "").strip(), "GATEWAY_API_KEY"
        if not key:
            raise Failed("there is no API key; set GATEWAY_API_KEY, or name a file that holds the key with --key-file")
    if not key or len(key) > 16_384 or not key.isascii() or not key.isprintable() or " " in key:
        raise Failed(f"{where}: holds no API key; a key is one word, as `gateway keys create` shows it")
    return key


def said(purpose: str | None, task: str | None, on_behalf_of: str | None) -> dict[str, str]:
    """Give the headers that say this of all lines. Raises Failed where the gateway would not take them."""
    given = {"purpose": purpose, "task": task, "on_behalf_of": on_behalf_of}
    try:
        checked = {
            name: checked_word(name, text, _option(name), "") for name, text in given.items() if text is not None
        }
    except InvalidRequest as exc:
        raise Failed(exc.message) from None
    return {f"x-gateway-{name.replace('_', '-')}": text for name, text in checked.items()}


def because(why: str | None) -> dict[str, str]:
    """Give the header that says why answers are taken away. Raises Failed where it can not be sent."""
    if why is not None and not why.isprintable():
        raise Failed("--why: give printable characters in one line")
    return {} if why is None else {"x-gateway-why": why}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
