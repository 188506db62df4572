"""What proves a library: the SHA-256 of its files in a manifest, and an Ed25519 signature (RFC 8032) over the manifest.

``manifest.sig`` holds the base64 of the signature over the bytes of ``manifest.json``. Whoever can write the folder can
write a manifest, but not its signature, so a changed demonstration is noticed at the start.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ORDER = "order.yaml"
PUBLIC_KEY = "dvkRqDPsGBQ6S4YpnQTpTN90YwPDjrMtIO0fvtvznHg="
"""The public key, 32 bytes in base64, whose holder signs the library of this package."""

_DIGEST = "run `python -m gateway_clinical.digest` after a reviewed change, or install the package again"
_SIGN = (
    "install the package again, or sign a reviewed library with `python -m gateway_clinical.sign --key FILE` and set "
    "`public_key` to the key that it prints"
)


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The library's version, and the pairs that come first in its fixed order."""

    version: Annotated[int, Meta(ge=1)]
    first: tuple[str, ...] = ()


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the library must be: its version, the SHA-256 of each file in hex, and the one over all of them."""

    version: int
    sha256: str
    files: dict[str, str]


def manifest_of(folder: Path) -> Manifest:
    """Digest the YAML files in `folder`; the total is over ``name NUL sha256 LF`` of each, sorted by name."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.yaml"))}
    total = hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in files.items()).encode()).hexdigest()
    order = read_yaml(folder / ORDER, Order)
    return Manifest(version=order.version, sha256=total, files=files)


def verify_files(folder: Path) -> Manifest:
    """Check the files in `folder` against its manifest, and give the manifest.

    Raises:
        ValueError: the manifest is missing or malformed, or names other files or contents.
    """
    try:
        wanted = msgspec.json.decode(read_bytes(folder, MANIFEST, _DIGEST), type=Manifest)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"`{MANIFEST}` of the demonstration library can not be read ({exc}): {_DIGEST}") from None
    found = manifest_of(folder)
    if found != wanted:
        names = sorted(n for n in {*found.files, *wanted.files} if found.files.get(n) != wanted.files.get(n))
        which = ", ".join(f"`{name}`" for name in names) or f"`{MANIFEST}`"
        raise ValueError(f"the demonstration library is not the one that its manifest names, see {which}: {_DIGEST}")
    return found


def verify_signature(folder: Path, public_key: str) -> None:
    """Check ``manifest.sig`` in `folder` with `public_key`, 32 bytes in base64.

    Raises:
        ValueError: the key is malformed, the signature is missing, malformed or not the key's.
    """
    from cryptography.exceptions import InvalidSignature

    key = public_key_of(public_key)
    text = read_bytes(folder, SIGNATURE, _SIGN)
    try:
        signature = base64.b64decode(text.strip(), validate=True)
        key.verify(signature, read_bytes(folder, MANIFEST, _DIGEST))
    except binascii.Error:
        raise ValueError(f"`{SIGNATURE}` of the demonstration library is not base64: {_SIGN}") from None
    except InvalidSignature:
        raise ValueError(
            f"`{SIGNATURE}` does not sign the `{MANIFEST}` of the demonstration library with the key `{public_key}`: "
            f"{_SIGN}"
        ) from None


def public_key_of(text: str) -> Ed25519PublicKey:
    """Read a public key, 32 bytes in base64.

    Raises:
        ValueError: it is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:  # binascii's error is one too
        raise ValueError(
            f"`public_key` is `{text}`, which is no Ed25519 key of 32 bytes in base64: write the one that "
            "`python -m gateway_clinical.sign --new-key FILE` prints"
        ) from None


def read_bytes(folder: Path, name: str, hint: str) -> bytes:
    """Read a file of a library; ValueError with `hint` where it can not be read."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"the demonstration library has no `{name}`: {hint}") from None
    except OSError as exc:
        raise ValueError(f"`{name}` of the demonstration library can not be opened ({exc.strerror}): {hint}") from None


StructT = TypeVar("StructT", bound=Struct)


def read_yaml(path: Path, kind: type[StructT]) -> StructT:
    """Read a YAML file of a library as `kind`; ValueError where it is missing or not well formed."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast where it was built
    data = read_bytes(path.parent, path.name, "install the package again, or correct `library`")
    try:
        return msgspec.convert(yaml.load(data, Loader=loader), kind)  # noqa: S506 -- a safe loader
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as exc:
        reason = re.sub(r"\s+", " ", str(exc))
        raise ValueError(f"`{path.name}` of the demonstration library is not well formed: {reason}") from None
