"""The readings of a text: as it stands, normalised, and with what was encoded in it decoded.

Stages judge each reading, because a model may read any of them. Everything here is pure, thread-safe and takes linear
time.
"""

from __future__ import annotations

from gateway.text.fold import normalise
from gateway.text.language import language_like
from gateway.text.turns import defuse, forged_turns
from gateway.text.views import View, views

__all__ = ["View", "defuse", "forged_turns", "language_like", "normalise", "views"]
