"""What was judged, answer by answer, kept in a file as it comes, so that a run that ends early can be taken up again.

No question and no answer is kept: numbers and digests alone.
"""

from __future__ import annotations

import hashlib
from io import BufferedWriter
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, Unavailable

FILE = "answers.jsonl"


class Answer(Struct, frozen=True, kw_only=True):
    """One judged answer.

    `key` is the SHA-256, in hex, of all that it hangs on (see `key_of`). `refused` and `complied` are the auditors'
    words, `ms` the milliseconds of the model's answer (of the whole gateway: of its decision). Tokens are the backend's
    own count, `shown` counts demonstrations. `utility` is the token-F1 with the reference answer, `contained` whether
    a short reference stands in it; both None where there is none.
    """

    key: str
    refused: bool
    complied: bool
    ms: float
    prompt_tokens: int
    completion_tokens: int
    shown: int = 0
    utility: float | None = None
    contained: bool | None = None


def key_of(*parts: object) -> str:
    """Digest what an answer hangs on: SHA-256 in hex over canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


class Journal:
    """The answers until now. `path` is None where they are kept in memory alone.

    Every answer is handed to the system before the next is asked for, so that a kill loses none but the last, and a
    torn last line is cut off when the file is opened again. Use it as a context manager.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.torn = False
        self._file: BufferedWriter | None = None

    def __enter__(self) -> Journal:
        """Read what is there. Raises ConfigurationError for another file, Unavailable where it can not be had."""
        if self.path is None:
            return self
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
        except OSError as exc:
            raise Unavailable(f"{self.path}: can not be read ({exc.strerror or type(exc).__name__})") from None
        whole = data[: data.rfind(b"\n") + 1]
        self._read(whole, self.path)
        try:
            self._file = self.path.open("ab")
            if len(whole) < len(data):
                self.torn = True
                self._file.truncate(len(whole))
        except OSError as exc:
            why = exc.strerror or type(exc).__name__
            raise Unavailable(f"{self.path}: can not be written ({why}); name another folder with --out") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read(self, data: bytes, path: Path) -> None:
        decoder = msgspec.json.Decoder(Answer)
        for number, line in enumerate(data.splitlines(), 1):
            try:
                answer = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise ConfigurationError(
                    f"{path}:{number}: is no judged answer; name another folder with --out, or move this file away"
                ) from None
            self.answers[answer.key] = answer

    def add(self, answer: Answer) -> None:
        """Keep an answer. Raises Unavailable where it can not be written."""
        self.answers[answer.key] = answer
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(answer) + b"\n")
            self._file.flush()
        except OSError as exc:
            why = exc.strerror or type(exc).__name__
            raise Unavailable(
                f"{self.path}: can not be written ({why}); make room, then run the command again"
            ) from None
