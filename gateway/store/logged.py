"""The proofs that a record is in the log: an answer, or the first text of a stream, leaves by nothing else."""

from __future__ import annotations

from typing import final

from gateway.records import Outcome


class _Seal:
    """What only this package holds, so that no other can make a `Logged` or an `Opened`."""

    __slots__ = ()


_SEAL = _Seal()


@final
class Logged:
    """An outcome whose record is on the disk. Only `DecisionLog.append` makes one.

    `sequence` is the record's number in the log, `leaf` its RFC 6962 leaf hash in hex.
    """

    __slots__ = ("id", "leaf", "outcome", "sequence")
    id: str
    sequence: int
    leaf: str
    outcome: Outcome

    def __init__(self, seal: _Seal, *, id: str, sequence: int, leaf: str, outcome: Outcome) -> None:
        if seal is not _SEAL:
            raise TypeError("a Logged comes only from DecisionLog.append")
        for name, value in (("id", id), ("sequence", sequence), ("leaf", leaf), ("outcome", outcome)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Logged does not change")

    def __repr__(self) -> str:
        return f"Logged(id={self.id!r}, sequence={self.sequence})"


@final
class Opened:
    """A stream whose opening is on the disk. Only `DecisionLog.open` makes one.

    `id` and `sequence` are the record's, `leaf` is its RFC 6962 leaf hash in hex; `decision` is the id of the decision
    that is recorded when the stream is closed. `outcome` is what was known of it, so far.
    """

    __slots__ = ("decision", "id", "leaf", "outcome", "sequence")
    id: str
    decision: str
    sequence: int
    leaf: str
    outcome: Outcome

    def __init__(self, seal: _Seal, *, id: str, decision: str, sequence: int, leaf: str, outcome: Outcome) -> None:
        if seal is not _SEAL:
            raise TypeError("an Opened comes only from DecisionLog.open")
        values = {"id": id, "decision": decision, "sequence": sequence, "leaf": leaf, "outcome": outcome}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Opened does not change")

    def __repr__(self) -> str:
        return f"Opened(id={self.id!r}, decision={self.decision!r}, sequence={self.sequence})"


def logged(*, id: str, sequence: int, leaf: str, outcome: Outcome) -> Logged:
    """Make a `Logged`; for `DecisionLog.append` alone, and no part of the store's surface."""
    return Logged(_SEAL, id=id, sequence=sequence, leaf=leaf, outcome=outcome)


def opened(*, id: str, decision: str, sequence: int, leaf: str, outcome: Outcome) -> Opened:
    """Make an `Opened`; for `DecisionLog.open` alone, and no part of the store's surface."""
    return Opened(_SEAL, id=id, decision=decision, sequence=sequence, leaf=leaf, outcome=outcome)
