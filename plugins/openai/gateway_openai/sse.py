"""Server-sent events, as bytes come in: split anywhere, with any of the three line ends, bounded in size. Pure.

The format is WHATWG HTML's (section 9.2). Stricter in one point: a line that is no field of it is garbage, where the
standard would pass over it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway_openai.errors import UpstreamNonsense, UpstreamTooLarge

LINE = 2**20
"""The longest line that is read, in bytes."""

_BOM = b"\xef\xbb\xbf"
_PASSED_OVER = (b"event", b"id", b"retry")


class Events:
    """Reads the data of events. `most` bounds the whole stream, in bytes."""

    def __init__(self, *, most: int, line: int = LINE) -> None:
        self._most = most
        self._line = line
        self._size = 0
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Give the data of each event that `chunk` completes. What stands after the last one taken is not looked at.

        Raises:
            UpstreamTooLarge: a line, or the whole, is over its bound.
            UpstreamNonsense: it is no stream of events, or not UTF-8.
        """
        self._size += len(chunk)
        if self._size > self._most:
            raise UpstreamTooLarge("the stream is over the size that is taken")
        *lines, rest = self._plain(chunk).split(b"\n")
        for line in lines:
            if self._rest:
                self._rest += line
                event = self._take(self._rest)
                self._rest = bytearray()
            else:
                event = self._take(line)
            if event is not None:
                yield event
        self._rest += rest
        self._bound(self._rest)

    def end(self) -> Iterator[str]:
        """Give the last event where the stream ended without the empty line that completes it.

        A line that is not ended itself is a cut, unless it is the mark of the end.
        """
        if self._rest.strip() == b"data: [DONE]":
            self._take(self._rest.strip())
        if self._data:
            yield self._dispatch()

    def _plain(self, chunk: bytes) -> bytes:
        """Make every line end a line feed."""
        if self._after_cr and chunk:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False  # a pair, torn apart
        if b"\r" not in chunk:
            return chunk
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _bound(self, line: bytes | bytearray) -> None:
        if len(line) > self._line:
            raise UpstreamTooLarge("a line of the stream is over the size that is taken")

    def _take(self, line: bytes | bytearray) -> str | None:
        self._bound(line)
        if self._first:
            self._first, line = False, line.removeprefix(_BOM)
        if not line:
            return self._dispatch() if self._data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(bytes(value.removeprefix(b" ")))
        elif name and name not in _PASSED_OVER:
            raise UpstreamNonsense("the stream holds a line that is no server-sent event")
        return None

    def _dispatch(self) -> str:
        data, self._data = b"\n".join(self._data), []
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise UpstreamNonsense("the stream is not UTF-8") from None  # its own message would quote the bytes
