"""Stage objects, as bootstrap made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.stages import Kind


class Built(Struct, frozen=True, kw_only=True):
    """A stage object with the name and version that are stamped on its evidence.

    `config` is the SHA-256 of its configuration in hex, None where that is not known.
    """

    name: str
    version: str
    stage: Any
    config: str | None = None


BuiltStages = Mapping[tuple[Kind, str], Built]
"""The stage objects of one policy, by kind and name."""
