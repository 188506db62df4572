#!/usr/bin/env python3
"""Verifies an export or a proof of a Med-VLM Safety Gateway's decision log: offline, without the gateway.

    python verify_export.py [--key VKEY]... EXPORT        a folder, or a .zip file
    python verify_export.py [--key VKEY]... PROOF.json    what `gateway log prove ID --json` gives
    python verify_export.py [--key VKEY]... --record RECORD PROOF.json      with the record's bytes

It needs Python 3.9 and the package `cryptography`, and nothing else. It is over 300 lines because it is one file, so
that it can be carried about. --key names a public key of the log that you were given by another way than the export;
without it, the export shows only that it agrees with itself, which whoever made it up could do as well.

What holds where it says so: every listed file has the digest that the manifest says; the manifest is signed by the
log's key; every record's bytes are those of a leaf in the log's tree (RFC 6962), under a root that the log's key has
signed; and they are as many as the manifest counts. That none was left out of a filter it can not show.

Exit status: 0 where all holds, 1 where something does not, 2 where there is nothing to verify.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

EXPORT, PROOF, HANDOVER = "medvlm-gateway-export/1", "medvlm-gateway-proof/1", "medvlm-gateway log key handover"


class Bad(Exception):
    """Something does not hold."""


class Key(NamedTuple):
    """A public key: its name, its id, and its bytes."""

    name: str
    id: bytes
    public: bytes


class Place:
    """Files of a folder or of a zip file."""

    def __init__(self, path: Path) -> None:
        self._folder = path
        self._zip = None if path.is_dir() else zipfile.ZipFile(path)
        self._names = {name.rsplit("/", 1)[-1]: name for name in self._zip.namelist()} if self._zip else {}

    def open(self, name: str) -> IO[bytes]:
        """Open a file by its name. Raises Bad where it is not there."""
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise Bad(f"the manifest lists a file that can be none: {name!r}")
        try:
            return self._zip.open(self._names[name]) if self._zip else (self._folder / name).open("rb")
        except (KeyError, OSError):
            raise Bad(f"the file {name} is missing") from None

    def read(self, name: str) -> bytes:
        """Read a file."""
        with self.open(name) as file:
            return file.read()

    def digest(self, name: str) -> str:
        """Give a file's SHA-256 in hex."""
        found = hashlib.sha256()
        with self.open(name) as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                found.update(piece)
        return found.hexdigest()


def key_of(vkey: str) -> Key:
    """Read a public key, `name+id+base64` (C2SP signed-note, Ed25519)."""
    try:
        name, id_, data = vkey.strip().split("+", 2)
        raw = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise Bad(f"{vkey!r} is no public key") from None
    good = len(raw) == 33 and raw[0] == 1 and hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == id_
    if not good:
        raise Bad(f"{vkey!r} is no public key")
    return Key(name, bytes.fromhex(id_), raw[1:])


def note_of(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Part a signed note into its text and its signatures: key name, and key id with signature."""
    text, blank, lines = note.rpartition("\n\n")
    found = []
    for line in lines.splitlines():
        words = line.split(" ")
        if len(words) != 3 or words[0] != "\u2014":
            raise Bad("a note has a line that is no signature")
        found.append((words[1], base64.b64decode(words[2])))
    if not blank or not found:
        raise Bad("a note is not signed")
    return text + "\n", found


def signed_by(note: str, key: Key) -> bool:
    """Tell whether a note has a good signature of a key."""
    text, signatures = note_of(note)
    for name, data in signatures:
        if name == key.name and data[:4] == key.id:
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], text.encode())
            except InvalidSignature:
                continue
            return True
    return False


def head_of(note: str) -> tuple[str, int, bytes]:
    """Read a checkpoint: the log's name, its size, its root."""
    try:
        lines = note_of(note)[0].split("\n")
        return lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError, binascii.Error):
        raise Bad("the checkpoint is none") from None


def included(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for one in path:
        if last == 0 or len(one) != 32:
            return False
        if at & 1 or at == last:
            found = hashlib.sha256(b"\x01" + one + found).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\x01" + found + one).digest()
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def chain(keys: list[dict[str, Any]], trusted: list[str]) -> tuple[list[tuple[int, Key]], list[str]]:
    """Check the log's keys: each was put in its place by the one before it.

    Gives them with the sizes above which they sign, and what is to be said of them. Raises Bad where that is broken and
    the new key is none that is trusted, or where none is.
    """
    told: list[str] = []
    found: list[tuple[int, Key]] = []
    run = False  # whether the keys since the last break hold a trusted one
    for number, row in enumerate(keys, 1):
        key, above, broken = key_of(row["vkey"]), 0, False
        if found:
            old = found[-1][1]
            note = row.get("note") or ""
            lines = note_of(note)[0].split("\n") if note else []
            due = [
                HANDOVER,
                key.name,
                str(number),
                lines[3] if len(lines) > 3 else "",
                keys[number - 2]["vkey"],
                row["vkey"],
                "",
            ]
            if lines != due or old.name != key.name or not signed_by(note, key):
                raise Bad(f"key {number} of the log came without a statement of how it followed")
            above, broken = int(lines[3]), not signed_by(note, old)
        if broken:
            told.append(f"key {number} was not put in its place by the key before it: that was lost, or passed over")
            if trusted and not run:
                raise Bad("the log's keys before that are none that you trust")
            if row["vkey"] not in trusted:
                raise Bad(told[-1])
            run = False
        run = run or row["vkey"] in trusted
        found.append((above, key))
    if not found:
        raise Bad("the log names no key")
    if trusted and not run:
        raise Bad("the log's keys are none that you trust: this is another log, or its history was rewritten")
    return found, told


def key_at(keys: list[tuple[int, Key]], size: int) -> Key:
    """Give the key that signs a checkpoint over `size` records."""
    return [key for above, key in keys if above < size or above == 0][-1]


def checkpoint_of(note: str, keys: list[tuple[int, Key]]) -> tuple[int, bytes]:
    """Check a checkpoint's signature; give its size and root."""
    origin, size, root = head_of(note)
    key = key_at(keys, size)
    if origin != key.name:
        raise Bad("the checkpoint is of another log")
    if not signed_by(note, key):
        raise Bad("the checkpoint is not signed by the log's key")
    return size, root


def say(text: str, *, error: bool = False) -> None:
    """Print a line."""
    (sys.stderr if error else sys.stdout).write(f"{text}\n")


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Give the lines of a file without their ends."""
    for line in file:
        yield line[:-1] if line.endswith(b"\n") else line


def verify_export(path: Path, trusted: list[str]) -> list[str]:
    """Verify an export; give what to say. Raises Bad."""
    place = Place(path)
    body = place.read("manifest.json")
    manifest = json.loads(body)
    if manifest.get("format") != EXPORT:
        raise Bad("the manifest is of no export that this script knows")
    keys, told = chain(manifest["keys"], trusted)
    note = place.read("manifest.note").decode()
    size, root = checkpoint_of(manifest["checkpoint"], keys)
    first = [key for _, key in keys].index(key_at(keys, size))
    if not any(signed_by(note, key) for _, key in keys[first:]):  # a key that was handed over signs nothing new
        raise Bad("the manifest is not signed by the log's key of that time or a later one")
    if note_of(note)[0] != f"medvlm-gateway export\n{hashlib.sha256(body).hexdigest()}\n":
        raise Bad("the manifest was changed after it was signed")
    names = set()
    for file in manifest["files"]:
        names.add(file["name"])
        if place.digest(file["name"]) != file["sha256"]:
            raise Bad(f"the file {file['name']} was changed")
    told.append(f"{len(names)} files are as the signed manifest says")
    if "proofs.ndjson" not in names:
        raise Bad("the export has no proofs")
    exact = "records.ndjson" in names
    count = 0
    last = -1
    with place.open("proofs.ndjson") as proofs:
        records = lines_of(place.open("records.ndjson")) if exact else None
        for line in lines_of(proofs):
            proof = json.loads(line)
            verify_one(proof, size, root, None if records is None else next(records, b""))
            if proof["position"] <= last:
                raise Bad(f"the record {proof['id']} stands out of order, or twice")
            last = proof["position"]
            count += 1
        if records is not None and next(records, None) is not None:
            raise Bad("there are more records than proofs")
    if count != manifest["count"]:
        raise Bad(f"the manifest counts {manifest['count']} records, and there are {count}")
    what = "records, byte for byte, are" if exact else "leaf hashes (the records are made pseudonymous) are those"
    told.append(f"{count} {what} in the log, under the signed root of its first {size}")
    return told


def verify_one(proof: dict[str, Any], size: int, root: bytes, record: bytes | None) -> None:
    """Check one proof, and the record's bytes where they are given."""
    leaf = bytes.fromhex(proof["leaf"])
    if record is not None:
        if hashlib.sha256(b"\x00" + record).digest() != leaf:
            raise Bad(f"the record {proof['id']} was changed: its bytes do not have its leaf hash")
        if json.loads(record).get("id") != proof["id"]:
            raise Bad(f"the proof of {proof['id']} is of another record")
    if not included(leaf, proof["position"], size, [bytes.fromhex(one) for one in proof["path"]], root):
        raise Bad(f"the record {proof['id']} is not in the log: its proof does not lead to the signed root")


def verify_proof(path: Path, trusted: list[str], record: Path | None) -> list[str]:
    """Verify the proof of one record; give what to say. Raises Bad."""
    proof = json.loads(path.read_bytes())
    if proof.get("format") != PROOF:
        raise Bad("the file is no proof that this script knows")
    keys, told = chain(proof["keys"], trusted)
    size, root = checkpoint_of(proof["checkpoint"], keys)
    if proof["size"] != size:
        raise Bad("the proof is not for its checkpoint")
    verify_one(proof, size, root, None if record is None else record.read_bytes().rstrip(b"\n"))
    what = "the record with this leaf hash" if record is None else "this record, byte for byte,"
    told.append(f"{what} is in the log at the place {proof['position']}, under the signed root of its first {size}")
    return told


def main() -> int:
    """Verify what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="an export (folder or .zip), or a proof (.json)")
    parser.add_argument("--key", action="append", default=[], help="a public key of the log that you know")
    parser.add_argument("--record", type=Path, help="with a proof: the file with the record's bytes")
    given = parser.parse_args()
    try:
        trusted = [key.strip() for key in given.key if key_of(key)]
        if not given.path.exists():
            say(f"error: there is no {given.path}", error=True)
            return 2
        single = given.path.is_file() and not zipfile.is_zipfile(given.path)
        told = verify_proof(given.path, trusted, given.record) if single else verify_export(given.path, trusted)
    except Bad as exc:
        say(f"error: {exc}", error=True)
        return 1
    except (ValueError, LookupError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as exc:
        say(f"error: it can not be read ({type(exc).__name__})", error=True)
        return 1
    for line in told:
        say(line)
    if not trusted:
        say("NO KEY WAS GIVEN: this shows that it agrees with itself, not whose log it is; give --key", error=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
