"""Whether one record is in the tree as it was written: each step of the proof, so that the one that fails is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.records import merkle
from gateway.records.note import parse_head, parse_note, parse_vkey

if TYPE_CHECKING:
    from gateway.store.log import Stored
    from gateway.store.tree import Proof


class Step(Struct, frozen=True, kw_only=True):
    """One step of a check: what was checked, and whether it holds."""

    what: str
    good: bool


def check_record(stored: Stored, proof: Proof) -> tuple[Step, ...]:
    """Check a record against its proof: bytes to leaf, leaf to root, root to signature."""
    leaf = merkle.leaf_hash(stored.bytes)
    note = parse_note(proof.checkpoint)
    head = parse_head(note.text)
    path = [bytes.fromhex(one) for one in proof.path]
    keys = [parse_vkey(key.vkey) for key in proof.keys]
    return (
        Step(what="the record's bytes have the leaf hash that stands beside them", good=leaf.hex() == stored.leaf),
        Step(what="the tree holds that leaf hash at the record's place", good=leaf.hex() == proof.leaf),
        Step(
            what=f"the path of {len(path)} hashes leads from the leaf to the root of the checkpoint",
            good=head.size == proof.size and merkle.verify_inclusion(leaf, proof.position, proof.size, path, head.root),
        ),
        Step(what="a key of this log has signed the checkpoint", good=any(note.signed_by(key) for key in keys)),
    )
