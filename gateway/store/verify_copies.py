"""Compares the checkpoints with copies of them that lie elsewhere, where the database's owner can not write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.records import merkle
from gateway.records.handover import Chain
from gateway.records.note import Note, parse_head, parse_note, split_notes
from gateway.store.verify_source import Reader, tile_reader

_SUFFIX = ".notes"
_PROBLEMS = 5  # told of one file


def copy_files(place: Path) -> tuple[Path, ...]:
    """List the files of a place: itself, or those of a folder that hold notes."""
    if place.is_dir():
        return tuple(sorted(one for one in place.iterdir() if one.suffix == _SUFFIX))
    return (place,)


def check_copies(place: Path, reader: Reader, chain: Chain) -> tuple[int, tuple[str, ...]]:
    """Compare the copies in a file or folder; give how many there are, and the problems. Raises OSError."""
    count, problems = 0, []
    read = tile_reader(reader)
    for path in copy_files(place):
        with path.open(encoding="utf-8", errors="replace") as lines:
            notes = list(split_notes(lines))
        for number, text in enumerate(notes, 1):
            count += 1
            whole = text.endswith("\n") or number < len(notes)
            problem = _problem(text, reader, read, chain) if whole else None  # the last may just be written
            if problem is not None:
                problems.append(f"the copy {number} in `{path}` {problem}")
                if len(problems) == _PROBLEMS:
                    return count, tuple(problems)
    return count, tuple(problems)


def _problem(text: str, reader: Reader, read: merkle.Read, chain: Chain) -> str | None:
    try:
        note = parse_note(text)
        head = parse_head(note.text)
    except ValueError as exc:
        return f"is no checkpoint: {exc}"
    rows = reader.rows("SELECT note, root FROM checkpoints WHERE size = ?", head.size)
    if rows and rows[0][0] == text:
        return None  # verified with the others
    signed = _unsigned(note, chain, head.size)
    if signed is not None:
        return f"over {head.size} records {signed}"
    (size,) = reader.rows("SELECT size FROM tree_state WHERE id = 1")[0]  # now: the log may have grown meanwhile
    if head.size > size:
        return f"is over {head.size} records, and the log has {size}: its end was cut off"
    try:
        root = bytes(rows[0][1]) if rows else merkle.root(read, head.size)
    except ValueError:
        return f"over {head.size} records can not be compared: the tree is damaged"
    if root != head.root:
        return f"over {head.size} records has another root: the history before that was rewritten"
    return None


def _unsigned(note: Note, chain: Chain, size: int) -> str | None:
    key = chain.at(size)
    if key is not None and note.signed_by(key):
        return None
    if any(note.claims(span.key) for span in chain.spans):
        return "was forged: its signature is not good, or of a key that was not in use then"
    names = ", ".join(sorted({f"`{one.name}` ({one.id.hex()})" for one in note.signatures}))
    return (
        f"is signed by {names}, which is no key of this log: the history was rewritten with a new key, or it is forged"
    )


def places(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Give each place once."""
    yield from dict.fromkeys(path.absolute() for path in paths)
