"""Write the manifest of the library again, after a reviewed change: ``python -m gateway_clinical.digest [FOLDER]``.

What was signed before is then signed no more: ``python -m gateway_clinical.sign --key FILE [FOLDER]`` comes next.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from gateway_clinical.library import HOME, read
from gateway_clinical.manifest import MANIFEST, manifest_of


def main(arguments: list[str]) -> int:
    """Digest the library, write its manifest, read it back as a check, and print what it is."""
    folder = Path(arguments[0]) if arguments else HOME
    try:
        text = msgspec.json.format(msgspec.json.encode(manifest_of(folder), order="sorted"), indent=2)
        (folder / MANIFEST).write_bytes(text + b"\n")
        library = read(folder)
    except (ValueError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"version {library.version}, {len(library.pairs)} pairs, sha256 {library.sha256}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
