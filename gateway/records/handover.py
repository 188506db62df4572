"""The statement by which one signing key of the log hands over to the next: the text of a note that both sign. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from gateway.records.note import Verifier, parse_note, parse_vkey

_TITLE = "medvlm-gateway log key handover"


class KeyRow(Struct, frozen=True, kw_only=True):
    """A key as the database names it: its number from 1, the size up to which the key before it signs, and the note."""

    number: int
    vkey: str
    size: int
    note: str | None


class Span(Struct, frozen=True, kw_only=True):
    """A key, and the size above which it signs, until the next one's."""

    above: int
    key: Verifier


class Chain(Struct, frozen=True, kw_only=True):
    """The log's keys in order. `problems` says what is wrong with them."""

    spans: tuple[Span, ...]
    problems: tuple[str, ...]

    def at(self, size: int) -> Verifier | None:
        """Give the key that signs the checkpoint over `size` records."""
        found = [span.key for span in self.spans if span.above < size]
        return found[-1] if found else None

    def names(self, vkey: str) -> bool:
        """Tell whether `vkey` is one of the keys."""
        return any(span.key.vkey == vkey for span in self.spans)


def handover_text(number: int, size: int, old: Verifier, new: Verifier) -> str:
    """Give the text: key `number` signs what is larger than `size`."""
    return f"{_TITLE}\n{new.name}\n{number}\n{size}\n{old.vkey}\n{new.vkey}\n"


def chain_of(rows: Sequence[KeyRow], trusted: Collection[str] = ()) -> Chain:
    """Check the keys of a log and their handovers. With `trusted` each unbroken run of keys must hold one of those.

    Without it the first key is taken at its word, and every break is a problem.
    """
    spans: list[Span] = []
    problems: list[str] = []
    run: set[str] = set()
    begins = 0  # the number of the first key of the run

    def close_run() -> None:
        if trusted and run and not run & set(trusted):
            problems.append(f"the key {begins} of the log, `{spans[-1].key.vkey}`, is none that you trust")

    for due, row in enumerate(rows, 1):
        try:
            key = parse_vkey(row.vkey)
        except ValueError:
            problems.append(f"the key {row.number} of the log is no public key")
            continue
        before = spans[-1] if spans else None
        if row.number != due or (before is not None and row.size < before.above):
            problems.append(
                f"the keys of the log do not follow each other: key {row.number} stands in the place of {due}"
            )
        broken = None if before is None else _break(row, before.key, key)
        if broken is not None and row.vkey not in trusted:
            problems.append(f"the key {row.number} of the log, `{row.vkey}`, {broken}")
        if before is None or broken is not None:
            close_run()
            run, begins = set(), row.number
        run.add(row.vkey)
        spans.append(Span(above=row.size if before is not None else 0, key=key))
    close_run()
    if not rows:
        problems.append("the table `log_keys` is empty: nobody signed the log")
    return Chain(spans=tuple(spans), problems=tuple(dict.fromkeys(problems)))


def _break(row: KeyRow, old: Verifier, new: Verifier) -> str | None:
    """Tell what is missing from a handover, None where it is whole."""
    if old.name != new.name:
        return f"is of another log, `{new.name}`"
    try:
        note = parse_note(row.note or "")
    except ValueError:
        return "came without a statement of the key before it"
    if note.text != handover_text(row.number, row.size, old, new):
        return "came with a statement that says something else"
    if not note.signed_by(new):
        return "came with a statement that it has not signed"
    if not note.signed_by(old):
        return "was not put in its place by the key before it, which was lost or passed over"
    return None
