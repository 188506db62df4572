"""Sign the manifest of a library: ``python -m gateway_clinical.sign --key FILE [FOLDER]``.

``--new-key FILE`` makes a key (Ed25519, PKCS 8, PEM) and prints its public half, for `public_key` in a policy. Keep the
key away from the repository and from the machine that serves.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_clinical.library import HOME, load
from gateway_clinical.manifest import MANIFEST, PUBLIC_KEY, SIGNATURE, verify_files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_clinical.sign", description=__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--key", type=Path, metavar="FILE", help="sign with this key")
    task.add_argument("--new-key", type=Path, metavar="FILE", help="make a key in a file that is not there yet")
    parser.add_argument("folder", type=Path, nargs="?", default=HOME, help="the library (default: this package's)")
    options = parser.parse_args(arguments)
    try:
        said = new_key(options.new_key) if options.key is None else sign(options.folder, options.key)
    except FileExistsError:
        said = f"`{options.new_key}` is there already: name a new file"
    except OSError as exc:
        said = f"`{exc.filename}` can not be opened ({exc.strerror}): correct the path"
    except ValueError as exc:
        said = str(exc)
    else:
        sys.stdout.write(f"{said}\n")
        return 0
    sys.stderr.write(f"{said}\n")
    return 1


def new_key(path: Path) -> str:
    """Make a key in `path`, readable for its owner alone, and give its public half in base64.

    Raises:
        OSError: the file is there already, or can not be made.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return _public(key)


def sign(folder: Path, path: Path) -> str:
    """Sign the manifest in `folder` with the key in `path`, load the library as a check, and say with which key.

    Raises:
        ValueError: the library is not the one that its manifest names, or the file holds no such key.
        OSError: the key can not be read, or the signature can not be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    verify_files(folder)
    data = path.read_bytes()
    try:
        key: object = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(  # noqa: TRY004 -- a wrong file, not a wrong call
            f"`{path}` holds no Ed25519 key without a password: make one with `--new-key FILE`"
        )
    signature = key.sign((folder / MANIFEST).read_bytes())
    (folder / SIGNATURE).write_bytes(base64.b64encode(signature) + b"\n")
    public = _public(key)
    load(folder, public)
    ours = "the key of this package" if public == PUBLIC_KEY else "set it as `public_key`"
    return f"signed with {public} ({ours})"


def _public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


if __name__ == "__main__":
    raise SystemExit(main())
