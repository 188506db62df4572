"""Write the vectors of a library's questions: ``python -m gateway_clinical.embed [FOLDER]``, after every `digest`."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway_clinical.encoder import Encoder
from gateway_clinical.library import HOME, read
from gateway_clinical.nearest import FILE, write


def main(arguments: list[str]) -> int:
    """Read the library, encode its questions, write the file, and print what it is."""
    folder = Path(arguments[0]) if arguments else HOME
    try:
        library = read(folder)
        size = write(folder, library, Encoder())
    except (ValueError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"{folder / FILE}: {len(library.pairs)} pairs, {size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
