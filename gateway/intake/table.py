"""A table in CSV: one line for each row.

UTF-8 with or without a byte order mark; the delimiter is the one of ``,``, ``;`` and tab with which the header makes
sense. Rows are counted as a spreadsheet does: the header is row 1, and empty rows count.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from gateway.errors import ConfigurationError
from gateway.intake.line import Item, Line, Options, Problem, Unfit, shown_name
from gateway.intake.making import Picture, gathered, line, picture
from gateway.intake.places import Root
from gateway.wire.sampling import MAX_TOKENS
from gateway.wire.words import hint

COLUMNS = (
    "question",
    "image",
    "patient",
    "study",
    "task",
    "purpose",
    "on_behalf_of",
    "model",
    "max_tokens",
    "custom_id",
)
"""The columns; `question` is required."""

_DELIMITERS = (",", ";", "\t")
_SAID = ("patient", "study", "task", "purpose", "on_behalf_of")
_LONGEST_ID = 512  # characters of a custom_id


class Table:
    """An open CSV file whose header was read. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Open `path` and read its header.

        Raises:
            ConfigurationError: it can not be read, or its header is not what is expected.
        """
        self._path = path
        try:
            self._file: TextIO = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
            first = self._file.readline(1 << 20)
        except OSError as exc:
            raise ConfigurationError(
                f"{path}: can not be read ({(exc.strerror or type(exc).__name__).lower()})"
            ) from None
        if first.encode("utf-8", "surrogateescape").startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self.close()
            raise ConfigurationError(f"{path}: is UTF-16; save it as CSV in UTF-8")
        try:
            self.delimiter, self.columns = _header(first, path)
        except ConfigurationError:
            self.close()
            raise
        self._file.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def lines(self, root: Root | None, options: Options) -> Iterator[Item]:
        """Give the lines of the rows, in their order. `root` is the folder of images, None where none was named."""
        reader = csv.reader(self._file, delimiter=self.delimiter, strict=True)
        next(reader)
        seen: dict[bytes, int] = {}
        number = 1
        while True:
            number += 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as exc:
                # What follows could be the middle of a cell: asked as a question it would be the wrong one.
                yield Problem(
                    where=f"row {number}", why=f"it is not CSV ({exc}), and no row after it was read; mend it"
                )
                return
            if not any(cell.strip() for cell in row):
                continue
            try:
                made = self._row(row, number, root, options)
                _check_once(made, number, seen)
                yield made
            except Unfit as exc:
                yield Problem(where=f"row {number}", why=str(exc))

    def _row(self, row: Sequence[str], number: int, root: Root | None, options: Options) -> Line:
        if len(row) != len(self.columns):
            raise Unfit(f"it has {len(row)} cells, and the header {len(self.columns)}; check its quotes and delimiters")
        if any(not _is_text(cell) for cell in row):
            raise Unfit("it is not UTF-8; save the file as UTF-8")
        cells = {name: cell.strip() for name, cell in zip(self.columns, row, strict=True)}
        names = [name.strip() for name in cells.get("image", "").split(";") if name.strip()]
        own_id = cells.get("custom_id") or f"row-{number}"
        if len(own_id) > _LONGEST_ID:
            raise Unfit(f"its `custom_id` has {len(own_id)} characters; give at most {_LONGEST_ID}")
        return line(
            own_id,
            cells["question"],
            gathered(_pictures(names, root, options), options),
            options,
            said={name: cells.get(name) for name in _SAID},
            told={"source": "csv"},
            model=cells.get("model") or None,
            max_tokens=_tokens(cells.get("max_tokens", "")),
        )


def _is_text(cell: str) -> bool:
    return cell.isascii() or not any("\ud800" <= c <= "\udfff" for c in cell)


def _check_once(made: Line, number: int, seen: dict[bytes, int]) -> None:
    digest = hashlib.blake2b(made.custom_id.encode(), digest_size=16).digest()
    first = seen.setdefault(digest, number)
    if first != number:
        raise Unfit(f"its `custom_id` is that of row {first}; give each row its own")


def _pictures(names: Sequence[str], root: Root | None, options: Options) -> Iterator[Picture]:
    for name in names:
        if root is None:
            raise Unfit("it names an image, and no folder of images was given; name one with --images-root")
        yield picture(root.read(name, max(options.limits.dicom, options.limits.encoded)), name, options)


def _tokens(text: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_TOKENS:
        return int(text)
    raise Unfit(f"its `max_tokens` is {shown_name(text, 20)}; give a whole number from 1 to {MAX_TOKENS}")


def _split(first: str, delimiter: str) -> list[str]:
    return [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]


def _header(first: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """Find the delimiter with which the header names the most known columns, and check it."""
    if not first.strip():
        raise ConfigurationError(
            f"{path}: its first row is empty; begin with a header such as `question,image,patient`"
        )
    try:
        tried = [(delimiter, _split(first, delimiter)) for delimiter in _DELIMITERS]
    except csv.Error as exc:
        raise ConfigurationError(f"{path}: its header is not CSV ({exc}); write one such as `question,image`") from None
    delimiter, names = max(tried, key=lambda one: (len(set(one[1]) & set(COLUMNS)), len(one[1])))
    problems = [
        f"{path}: unknown column {shown_name(name, 64)}{hint(name, COLUMNS) or '; known: ' + ', '.join(COLUMNS)}"
        for name in names
        if name not in COLUMNS
    ]
    problems += [f"{path}: the column `{name}` stands twice; remove one" for name in COLUMNS if names.count(name) > 1]
    if "question" not in names:
        problems.append(f"{path}: there is no column `question`; add one, it is required")
    if problems:
        raise ConfigurationError(*problems)
    return delimiter, tuple(names)
