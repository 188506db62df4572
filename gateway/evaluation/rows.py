"""Labelled questions from JSON Lines files, read strictly: every mistake of every file is told before work begins.

Messages name the file, the line and the field, and never quote a value: the values are patients' and attackers' words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError, InvalidImage
from gateway.images import Limits, decode_bytes
from gateway.values import Image, Part, Request, Sampling, Text, Turn

TOLD = 20  # mistakes shown at once; a file in the wrong format makes one for each line
LABELS = ("harmful", "benign")


class Row(Struct, frozen=True, kw_only=True):
    """One labelled question. `line` is its place in the file (1-based), `image` the path of its picture.

    `clinical` says whether it is about clinical work, None where the file does not say. `modality` is free text, and
    `reference` a reference answer.
    """

    line: int
    id: str
    harmful: bool
    text: str
    category: str = ""
    image: Path | None = None
    pair: str | None = None
    attack: str | None = None
    clinical: bool | None = None
    modality: str | None = None
    reference: str | None = None


class RowFile(Struct, frozen=True, kw_only=True):
    """A file that was read. `name` is unique in one run, `digest` the SHA-256 of the bytes in hex.

    `rows` are in the file's order, and at most as many as were asked for; `total` is how many the file holds.
    """

    path: Path
    name: str
    digest: str
    rows: tuple[Row, ...]
    total: int


class _Mistakes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, place: str, text: str) -> None:
        self.lines.append(f"{place}: {text}")

    def stop(self) -> None:
        """Raise ConfigurationError where there are mistakes: the first `TOLD`, and how many more."""
        if self.lines:
            rest = len(self.lines) - TOLD
            more = (f"… and {rest} more of the same file or of others; mend these first",) if rest > 0 else ()
            raise ConfigurationError(*self.lines[:TOLD], *more)


def read_rows(paths: Sequence[Path], *, limit: int | None = None, only: str | None = None) -> tuple[RowFile, ...]:
    """Read files of labelled questions; of each at most `limit` rows, drawn at random and always the same ones.

    Pairs are drawn whole, one at least. With `only`, a label, rows may go without one, and another is a mistake.
    Raises ConfigurationError with the mistakes of all files.
    """
    mistakes = _Mistakes()
    names = _names(paths)
    files = [_read(path, name, limit, only, mistakes) for path, name in zip(paths, names, strict=True)]
    mistakes.stop()
    return tuple(file for file in files if file is not None)


def _names(paths: Sequence[Path]) -> list[str]:
    """Name each file by its last part, and in full where two share that."""
    last = [path.name for path in paths]
    return [name if last.count(name) == 1 else str(path) for name, path in zip(last, paths, strict=True)]


def _read(path: Path, name: str, limit: int | None, only: str | None, mistakes: _Mistakes) -> RowFile | None:
    try:
        data = path.read_bytes()
    except OSError as exc:
        mistakes.add(str(path), f"can not be read ({exc.strerror or type(exc).__name__}); name a file of JSON Lines")
        return None
    rows: list[Row] = []
    seen: dict[str, int] = {}
    before = len(mistakes.lines)
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        row = _row(line, number, path, only, mistakes)
        if row is None:
            continue
        first = seen.setdefault(row.id, number)
        if first != number:
            mistakes.add(f"{path}:{number}", f"`id` stands already in line {first}; give each row its own")
        rows.append(row)
    if not rows and len(mistakes.lines) == before:
        mistakes.add(str(path), 'holds no row; write one JSON object in each line, with "id", "label" and "text"')
    return RowFile(
        path=path,
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
        rows=tuple(rows) if limit is None else _drawn(rows, limit),
        total=len(rows),
    )


def _row(line: bytes, number: int, path: Path, only: str | None, mistakes: _Mistakes) -> Row | None:
    place, before = f"{path}:{number}", len(mistakes.lines)
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # its message may quote the line
        mistakes.add(place, "is no JSON; write one JSON object in each line, in UTF-8")
        return None
    if not isinstance(raw, dict):
        mistakes.add(place, 'is no JSON object; write `{"id": …, "label": …, "text": …}`')
        return None
    if not isinstance(raw.get("id"), str) or not raw["id"]:
        mistakes.add(place, "`id` is missing or no text; give each row a name of its own")
    if only is not None and raw.setdefault("label", only) != only:
        mistakes.add(place, f"`label` is not `{only}`, and this file is to hold those alone; move the row to another")
    elif raw.get("label") not in LABELS:
        how = "is missing" if raw.get("label") is None else "is neither"
        mistakes.add(place, f"`label` {how}; write `harmful` or `benign`")
    for field in ("text", "image", "category", "pair_id", "attack", "modality", "reference"):
        if not isinstance(raw.get(field), str | None):
            mistakes.add(place, f"`{field}` is no text; put it in quotes, or leave it out")
    if not isinstance(raw.get("clinical"), bool | None):
        mistakes.add(place, "`clinical` is neither true nor false; write one of them, or leave it out")
    if not raw.get("text") and not raw.get("image"):
        mistakes.add(place, "has neither `text` nor `image`; write what is asked")
    if len(mistakes.lines) > before:
        return None
    return _made(raw, number, place, path.parent, mistakes)


def _made(raw: dict[str, Any], number: int, place: str, folder: Path, mistakes: _Mistakes) -> Row | None:
    image = folder / raw["image"] if raw.get("image") else None
    if image is not None and not image.is_file():
        mistakes.add(place, f"`image`: there is no file `{image}`; write its path as seen from `{folder}`")
        return None
    return Row(
        line=number,
        id=raw["id"],
        harmful=raw["label"] == "harmful",
        text=raw.get("text") or "",
        category=raw.get("category") or "",
        image=image,
        pair=raw.get("pair_id"),
        attack=raw.get("attack"),
        clinical=raw.get("clinical"),
        modality=raw.get("modality") or None,
        reference=raw.get("reference") or None,
    )


def _drawn(rows: list[Row], limit: int) -> tuple[Row, ...]:
    units: dict[str, list[Row]] = {}
    for row in rows:
        units.setdefault(f"pair {row.pair}" if row.pair is not None else f"row {row.line}", []).append(row)
    order = list(units.values())
    random.Random(0).shuffle(order)  # noqa: S311 - a fair draw that is the same each time, no secret
    chosen: list[Row] = []
    for unit in order:
        if not chosen or len(chosen) + len(unit) <= limit:
            chosen += unit
    return tuple(sorted(chosen, key=lambda row: row.line))


def check_images(
    files: Iterable[RowFile], *, limits: Limits, jobs: int = 1, progress: Callable[[int], object] = lambda _: None
) -> None:
    """Decode every image once, in `jobs` threads, so that none stops the work later.

    Raises ConfigurationError with all images that the gateway would not take.
    """
    todo = [(file.path, row) for file in files for row in file.rows if row.image is not None]

    def check(item: tuple[Path, Row]) -> str | None:
        path, row = item
        try:
            _picture(row, limits)
        except InvalidImage as exc:
            return f"{path}:{row.line}: `image`: the gateway does not take `{row.image}`: {exc.message}"
        except OSError as exc:
            return f"{path}:{row.line}: `image`: `{row.image}` can not be read ({exc.strerror})"
        finally:
            progress(1)
        return None

    mistakes = _Mistakes()
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        mistakes.lines += [problem for problem in pool.map(check, todo) if problem is not None]
    mistakes.stop()


def _picture(row: Row, limits: Limits) -> Image | None:
    if row.image is None:
        return None
    place = "messages[0].content[1]" if row.text else "messages[0].content[0]"
    return decode_bytes(row.image.read_bytes(), id=place, limits=limits)


def request_of(row: Row, *, department: str, limits: Limits) -> Request:
    """Make the request that a row stands for: one turn of a user, with ids as they come over the wire.

    Decodes the image, so call it in a thread. Raises InvalidImage or OSError where the image has changed meanwhile.
    """
    picture = _picture(row, limits)
    parts: list[Part] = []
    if row.text:
        place = "messages[0].content" if picture is None else "messages[0].content[0]"
        parts.append(Text(id=place, text=row.text))
    if picture is not None:
        parts.append(picture)
    return Request(
        id=f"evaluate-{row.line}",
        department=department,
        model="evaluate",
        turns=(Turn(role="user", parts=tuple(parts)),),
        sampling=Sampling(),
    )
