"""Signed notes and checkpoints, as C2SP has them (signed-note, tlog-checkpoint), with Ed25519 keys. Pure.

A note is a text, an empty line, and a line for each signature: an em dash, the key's name, and base64 of the key's id
(4 bytes) and the signature. A public key is written ``name+id+base64``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

_ED25519 = b"\x01"
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_MOST_SIGNATURES = 100
_LONGEST = 1_000_000  # characters of a note


class Verifier(Struct, frozen=True, kw_only=True):
    """A public key: the name it goes by, and its 32 bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Give the key's id: the first 4 bytes of SHA-256(name || 0x0A || 0x01 || public)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """Give the key as text."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def good(self, text: str, signature: bytes) -> bool:
        """Tell whether `signature` is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signature(Struct, frozen=True, kw_only=True):
    """A signature of a note: by which key (name and id), and its bytes."""

    name: str
    id: bytes
    signature: bytes


class Note(Struct, frozen=True, kw_only=True):
    """A text, which ends with a newline, and signatures that may be good or not."""

    text: str
    signatures: tuple[Signature, ...]

    def signed_by(self, key: Verifier) -> bool:
        """Tell whether `key` has signed this text."""
        return any(
            one.name == key.name and one.id == key.id and key.good(self.text, one.signature) for one in self.signatures
        )

    def claims(self, key: Verifier) -> bool:
        """Tell whether a signature says that it is of `key`, good or not."""
        return any(one.name == key.name and one.id == key.id for one in self.signatures)


class TreeHead(Struct, frozen=True, kw_only=True):
    """What a checkpoint says: which log (`origin`), how many records, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """Give the text to be signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Signer:
    """A private key with a name."""

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError("a key's name has no spaces and no plus sign")
        self._private = private
        self.verifier = Verifier(name=name, public=private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Signer({self.verifier.vkey!r})"

    def line(self, text: str) -> str:
        """Give the line that signs `text`."""
        signature = base64.b64encode(self.verifier.id + self._private.sign(text.encode())).decode()
        return f"— {self.verifier.name} {signature}\n"


def sign(text: str, *signers: Signer) -> str:
    """Make a signed note. Raises ValueError where `text` can be none."""
    _check_text(text)
    return text + "\n" + "".join(signer.line(text) for signer in signers)


def parse_note(note: str) -> Note:
    """Read a note; its signatures are not checked. Raises ValueError."""
    if len(note) > _LONGEST:
        raise ValueError("the note is too long")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise ValueError("the note has no signatures")
    text += "\n"
    _check_text(text)
    found = tuple(_signature(line) for line in lines.removesuffix("\n").split("\n"))
    if len(found) > _MOST_SIGNATURES:
        raise ValueError("the note has too many signatures")
    return Note(text=text, signatures=found)


def parse_vkey(text: str) -> Verifier:
    """Read a public key, ``name+id+base64``. Raises ValueError."""
    parts = text.strip().split("+", 2)
    if len(parts) == 3 and _NAME.fullmatch(parts[0]):
        data = _base64(parts[2])
        if len(data) == 33 and data[:1] == _ED25519:
            key = Verifier(name=parts[0], public=data[1:])
            if key.id.hex() == parts[1]:
                return key
    raise ValueError("expected a public key as `name+id+base64`, of kind Ed25519")


def parse_head(text: str) -> TreeHead:
    """Read the text of a checkpoint; lines after the third are extensions, and left alone. Raises ValueError."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise ValueError("the text is no checkpoint")
    root = _base64(lines[2])
    if len(root) != 32:
        raise ValueError("the checkpoint's root is no hash")
    return TreeHead(origin=lines[0], size=int(lines[1]), root=root)


def split_notes(lines: Iterable[str]) -> Iterable[str]:
    """Part a file of notes, one after the other with empty lines between, into notes. A piece that is none is given."""
    taken: list[str] = []
    signed = False
    for line in lines:
        if signed and not line.startswith("— "):
            yield "".join(taken)
            taken, signed = [], False
        if taken or line.strip():
            taken.append(line)
            signed = line.startswith("— ")
    if taken:
        yield "".join(taken)


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise ValueError("a note's text ends with a newline and holds no control characters")


def _signature(line: str) -> Signature:
    match = _LINE.fullmatch(line)
    data = _base64(match[2]) if match else b""
    if match is None or len(data) < 5:
        raise ValueError("a line of the note is no signature")
    return Signature(name=match[1], id=data[:4], signature=data[4:])


def _base64(text: str) -> bytes:
    """Read base64 in its one canonical spelling; nothing where it is not."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if base64.b64encode(data).decode() == text else b""
