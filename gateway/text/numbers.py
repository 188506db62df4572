"""Find text that is written in numbers: bytes in some base, places in the alphabet, escapes of characters."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote_to_bytes

from gateway.text.bases import Span, readable
from gateway.text.language import is_language, is_prose, segment

_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x|\\x)?[0-9A-Fa-f]{2}(?:[\s,:;_+-]{0,3}(?:0x|\\x)?[0-9A-Fa-f]{2}){5,}+(?![0-9A-Za-z])"
)
_HEX_MARK = re.compile(r"0x|\\x|[^0-9A-Fa-f]")
_BITS = re.compile(r"(?<![01])(?P<byte>[01]{8}(?:[\s,]{0,3}[01]{8}){3,}+|[01]{7}(?:[\s,]{1,3}[01]{7}){3,}+)(?![01])")
_CODES = re.compile(r"(?<!\d)\d{2,3}(?:[\s,;.+-]{1,3}\d{2,3}){5,}+(?!\d)")
_OCTAL = re.compile(r"(?<![0-9A-Za-z])(?:0o|\\)?[01]?[0-7]{2}(?:[\s,;+-]{0,3}(?:0o|\\)?[01]?[0-7]{2}){5,}+(?!\d)")
_PLACE = re.compile(r"(?<![\d.])(?:1\d|2[0-6]|[1-9])(?:[-., /|]{1,3}(?:1\d|2[0-6]|[1-9])(?!\d)){7,}+(?!\.?\d)")
_PLACE_WORD = re.compile(r"\d+(?:[-.]\d+)*+")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})")
_QUOTED = re.compile(r"=[0-9A-F]{2}")
_ESCAPE = re.compile(
    r"\\u\{?[0-9A-Fa-f]{1,6}\}?|\\U[0-9A-Fa-f]{8}|&#x?[0-9A-Fa-f]{1,6};"
    r"|(?:[+&.,]?\s?)\b(?i:chrw?|char|fromCharCode)\(\s?\d{2,6}\s?\)|\s?\bU\+[0-9A-Fa-f]{4,6}"
)
_NUMBER = re.compile(r"[0-9]+")


def _hex(coded: str) -> str | None:
    digits = _HEX_MARK.sub("", coded.replace("0x", " ").replace("\\x", " "))
    plain = readable(bytes.fromhex(digits[: len(digits) & ~1]))
    if plain is None or is_language(plain):
        return plain
    # Two-digit ages are letters too, so what is no language must at least look like nothing else than hexadecimal.
    return plain if len(plain) >= 16 and not digits.isdigit() else None


def _bytes(coded: str, base: int, mark: str) -> str | None:
    codes = [int(code, base) for code in _NUMBER.findall(coded.replace(mark, " "))]
    if any(code > 255 for code in codes):
        return None
    plain = readable(bytes(codes))
    return plain if plain is not None and is_language(plain) else None


def find_hex(text: str) -> Iterator[Span]:
    r"""Find hexadecimal, plain or with spaces, ``0x`` or ``\x``; and bytes as binary, decimal or octal numbers."""
    for match in _HEX.finditer(text):
        start, coded = match.start(), match[0]
        for _ in range(4):  # "add 48 6f": a word before it may be of the same digits
            plain = _hex(coded)
            gap = re.search(r"\s+", coded[:12])
            if plain is not None or gap is None:
                break
            start, coded = start + gap.end(), coded[gap.end() :]
        if plain is not None:
            yield start, match.end(), plain
    for match in _BITS.finditer(text):
        width = 8 if re.match("[01]{8}", match[0]) else 7
        digits = "".join(_NUMBER.findall(match[0]))
        plain = readable(bytes(int(digits[at : at + width], 2) for at in range(0, len(digits) - width + 1, width)))
        if plain is not None:
            yield (*match.span(), plain)
    for match in _CODES.finditer(text):
        plain = _bytes(match[0], 10, ",")
        if plain is not None:
            yield (*match.span(), plain)
    for match in _OCTAL.finditer(text):
        coded = match[0] if not match[0].isdigit() else " ".join(re.findall("...", match[0]))
        plain = _bytes(coded, 8, "0o")
        if plain is not None:
            yield (*match.span(), plain)


def find_places(text: str) -> Iterator[Span]:
    """Find words whose letters are written as their places in the alphabet: ``8-15-23``."""
    for match in _PLACE.finditer(text):
        coded = match[0]
        grouped = "-" in coded or "." in coded
        parts = _PLACE_WORD.findall(coded) if grouped else [coded]
        spelled = ["".join(chr(96 + int(place)) for place in _NUMBER.findall(part)) for part in parts]
        plain = " ".join(map(segment, spelled))
        if is_prose(plain):
            yield (*match.span(), plain)


def _whole(text: str, decode: Callable[[str], str]) -> Iterator[Span]:
    plain = decode(text)
    if plain != text:
        yield 0, len(text), plain


def find_url(text: str) -> Iterable[Span]:
    """Find percent-encoding, or quoted-printable, three bytes of it at least."""
    if text.count("%") > 2 and len(_PERCENT.findall(text)) > 2:
        return _whole(text, lambda coded: unquote_to_bytes(coded.encode("utf-8", "replace")).decode("utf-8", "replace"))
    if text.count("=") > 5 and len(_QUOTED.findall(text)) > 5:
        return _whole(text, lambda coded: _unquote(coded.replace("=\n", "")))
    return ()


def _unquote(coded: str) -> str:
    raw = coded.encode("utf-8", "replace")
    return re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), raw).decode("utf-8", "replace")


def _character(match: re.Match[str]) -> str:
    mark = match[0]
    if mark.startswith("&#"):
        return html.unescape(mark)
    spelled = mark.endswith(")")
    value = int(
        mark.rpartition("(")[2].rstrip(")") if spelled else mark.strip().strip("\\uU+{}"), 10 if spelled else 16
    )
    return chr(value) if value < 0x110000 else "\ufffd"


def find_escapes(text: str) -> Iterable[Span]:
    r"""Find characters written as ``\u0068``, ``&#104;``, ``&#x68;``, ``U+0068`` or ``chr(104)``, three at least."""
    if "\\" not in text and "&#" not in text and "U+" not in text and "(" not in text:
        return ()
    if len(_ESCAPE.findall(text)) < 3:
        return ()
    return _whole(text, lambda coded: _paired(_ESCAPE.sub(_character, coded)))


def _paired(text: str) -> str:
    """Put surrogates in pairs together; one that has no other becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
