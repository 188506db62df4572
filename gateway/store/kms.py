"""A key service behind a command: it gets one JSON object on its standard input and answers with one.

``{"op": "wrap", "key": BASE64, "kek": ID}`` is answered ``{"wrapped": BASE64}``, with ``"kek": ID`` beside it where the
service names the key it used; ``{"op": "unwrap", "key": BASE64, "kek": ID}``, where `key` is what was wrapped, is
answered ``{"key": BASE64}``. Any other answer, another exit status than 0, or none in time is a failure.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import re
import shlex
import signal
from typing import Literal

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, Unavailable
from gateway.records.sealing import KEY_BYTES

PATIENCE = 10.0
"""Seconds in which the command must answer."""

_AT_ONCE = 4  # commands that run at once: each is a process
_WRAPPED_MAX = 8192  # bytes of a wrapped key
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,59}")
_PRIVATE = ("GATEWAY_SECRET", "GATEWAY_DATABASE_URL", "GATEWAY_VAULT_KEY")  # what the command has no use for


class _Answer(Struct, frozen=True, kw_only=True):
    key: str | None = None
    wrapped: str | None = None
    kek: str | None = None


class KeyService:
    """Wraps and opens keys by a command. `kek` names the key that the service is asked to wrap with.

    The command is split as a shell would, and run without one. It is given no secret of the gateway but the key that
    is to be wrapped. Raises ConfigurationError where `command` or `kek` can not be used.
    """

    def __init__(self, command: str, kek: str = "default", *, patience: float = PATIENCE) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError:
            self._words = []
        if not self._words:
            raise ConfigurationError("GATEWAY_VAULT_KMS: expected a command with its words, quoted as in a shell")
        if not _ID.fullmatch(kek):
            raise ConfigurationError("GATEWAY_VAULT_KMS_KEY: expected at most 60 letters, digits and `._:/@-`")
        self.kek = kek
        self._patience = patience
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def wrap(self, key: bytes) -> tuple[str, bytes]:
        """Have `key` wrapped; give the id of the key that did it, and what it gave. Raises Unavailable."""
        answer = await self._ask("wrap", key, self.kek)
        wrapped = _bytes(answer.wrapped)
        kek = answer.kek or self.kek
        if not 0 < len(wrapped) <= _WRAPPED_MAX or not _ID.fullmatch(kek):
            raise _failed("gave no wrapped key")
        return kek, wrapped

    async def unwrap(self, wrapped: bytes, kek: str) -> bytes:
        """Have a key opened. Raises Unavailable."""
        key = _bytes((await self._ask("unwrap", wrapped, kek)).key)
        if len(key) != KEY_BYTES:
            raise _failed("gave no key")
        return key

    async def _ask(self, op: Literal["wrap", "unwrap"], key: bytes, kek: str) -> _Answer:
        asked = msgspec.json.encode({"op": op, "key": base64.b64encode(key).decode(), "kek": kek})
        environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        async with self._gate:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._words,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,  # it might repeat the key
                    env=environment,
                    start_new_session=True,
                )
            except (OSError, ValueError):
                raise _failed("can not be started") from None
            try:
                async with asyncio.timeout(self._patience):
                    said, _ = await process.communicate(asked)
            except TimeoutError:
                raise _failed(f"did not answer in {self._patience:g} s") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if process.returncode != 0:
            raise _failed(f"ended with status {process.returncode}")
        try:
            return msgspec.json.decode(said, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _failed("gave no JSON object as described") from None


def _bytes(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _failed(what: str) -> Unavailable:
    return Unavailable(
        f"the vault's key service {what}, so content can be neither sealed nor opened; tell the gateway's operator"
    )
