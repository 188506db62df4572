"""Stage objects, as bootstrap made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.stages import Kind


class Built(Struct, frozen=True, kw_only=True):
    """A stage object with the name and version that are stamped on its evidence.

    `config` is the SHA-256 of its configuration in hex, None where that is not known. `context` is how many tokens a
    model reads at once, None where its stage does not tell.
    """

    name: str
    version: str
    stage: Any
    config: str | None = None
    context: int | None = None


class Served(Struct, frozen=True, kw_only=True):
    """A model as a department may ask for it: by `name`, which is `root` to the stage that serves it.

    `context` is how many tokens it may be given at once, None where nobody knows.
    """

    name: str
    root: str
    context: int | None = None


BuiltStages = Mapping[tuple[Kind, str], Built]
"""The stage objects of one policy, by kind and name."""
