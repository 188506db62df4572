"""What a personality is: a name, a sentence of what it does, and the function that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from gateway.testing.upstream.talk import Talk

Act = Callable[[Talk, str], Awaitable[None]]
"""Gives an answer by a `Talk`; the text is what stands after the personality's colon."""


class Personality(Struct, frozen=True, kw_only=True):
    """A way to answer. `argument` says what may stand after the name and a colon, empty where nothing may."""

    name: str
    sentence: str
    act: Act
    argument: str = ""


def personality(name: str, sentence: str, argument: str = "") -> Callable[[Act], Personality]:
    """Make a personality of a function."""

    def make(act: Act) -> Personality:
        return Personality(name=name, sentence=sentence, act=act, argument=argument)

    return make
