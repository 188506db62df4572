"""Every finder of what is hidden in text by an encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gateway.text.bases import Span, find_base32, find_base58, find_base64, find_base85
from gateway.text.ciphers import find_ciphers, find_leet, find_order, find_pig, find_rot47
from gateway.text.numbers import find_escapes, find_hex, find_places, find_url
from gateway.text.spelled import find_acrostic, find_braille, find_morse, find_nato, find_tags, find_turned

_FINDERS: tuple[tuple[str, Callable[[str], Iterable[Span]]], ...] = (
    ("tags", find_tags),
    ("base64", find_base64),
    ("base32", find_base32),
    ("base58", find_base58),
    ("base85", find_base85),
    ("hex", find_hex),
    ("places", find_places),
    ("url", find_url),
    ("escapes", find_escapes),
    ("morse", find_morse),
    ("nato", find_nato),
    ("braille", find_braille),
    ("turned", find_turned),
    ("leet", find_leet),
    ("rot47", find_rot47),
    ("pig", find_pig),
    ("order", find_order),
    ("acrostic", find_acrostic),
)


def decode(text: str) -> Iterator[tuple[str, list[Span]]]:
    """Give each encoding that is found in `text`, by the name its view gets: its spans, in order."""
    for name, find in _FINDERS:
        spans = sorted(find(text))
        if spans:
            yield name, spans
    yield from find_ciphers(text)
