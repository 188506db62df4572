"""Find bytes that are written in base64, base32, base58 or base85."""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator

from gateway.text.language import is_language, words

Span = tuple[int, int, str]
"""Start and end in the text, in characters, and what it says when decoded."""

_B64_TOKEN = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{8,}={0,2}")
_B64_BACK = re.compile(r"(?<![A-Za-z0-9+/_=-])={0,2}[A-Za-z0-9+/_-]{24,}={0,2}")
_B64_CHARS = re.compile(r"[A-Za-z0-9+/_-]+")
_URLSAFE = str.maketrans("-_", "+/")
_PRINTABLE = re.compile(rb"[\t\n\r\x20-\x7e]{12,}")
_B32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{16,}|[a-z2-7]{24,})(?![A-Za-z0-9])={0,6}")
_B58 = re.compile(r"(?<![A-Za-z0-9])[1-9A-HJ-NP-Za-km-z]{24,1400}(?![A-Za-z0-9])")
_B58_DIGITS = {digit: at for at, digit in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_B85 = re.compile(r"(?<!\S)[\"'`(]?(?P<adobe><~)?(?P<coded>[!-~]{25,})(?!\S)")
_SIGN = re.compile(r"[^\w\s]")
_LETTERS = re.compile(r"[^\W\d_]")
_ROT13 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)


def readable(raw: bytes, *, loose: bool = False) -> str | None:
    """Give bytes as text where they are UTF-8 or UTF-16 without controls, most of it letters and spaces.

    `loose` takes 20 characters of ASCII and more whatever they are, for encodings that chance does not turn into it.
    """
    if len(raw) > 7 and (not any(raw[1:16:2]) or not any(raw[:16:2])):
        coding = "utf-16-le" if raw[0] else "utf-16-be"
        raw = raw[: len(raw) & ~1]
    else:
        coding = "utf-8"
    try:
        text = raw.decode(coding)
    except UnicodeDecodeError:
        return None
    if not text or not all(letter.isprintable() or letter in "\t\n\r" for letter in text):
        return None
    if loose and len(text) >= 20 and text.isascii():
        return text
    return text if len(_LETTERS.findall(text)) + text.count(" ") >= 0.7 * len(text) else None


def _unbase64(coded: str) -> bytes:
    coded = coded.rstrip("=").translate(_URLSAFE)
    if len(coded) % 4 == 1:
        coded = coded[:-1]
    return base64.b64decode(coded + "=" * (-len(coded) % 4))


def _tokens(text: str) -> Iterator[Span]:
    """Find words that are base64 each; lines of one block are one find."""
    known = words()
    start = end = -1
    block: list[str] = []
    for match in _B64_TOKEN.finditer(text):
        token = match[0]
        if len(token) < 12 and "=" not in token and token.lower() in known:
            continue
        plain = readable(_unbase64(token), loose=len(token) >= 28)
        if plain is None or (len(token) < 16 and not is_language(plain)):
            continue
        if block and (match.start() - end > 2 or not text[end : match.start()].isspace()):
            yield start, end, "".join(block)
            block = []
        if not block:
            start = match.start()
        block.append(plain)
        end = match.end()
    if block:
        yield start, end, "".join(block)


def _runs(text: str) -> Iterator[Span]:
    """Find base64 that white space or punctuation splits."""
    pieces = [piece for piece in _B64_CHARS.finditer(text) if piece[0] not in "+/-_"]  # a sign alone joins strings
    if len(pieces) < 2:
        return
    starts, total = [], 0  # where each piece begins once they are joined
    for piece in pieces:
        starts.append(total)
        total += piece.end() - piece.start()
    joined = "".join(piece[0] for piece in pieces).translate(_URLSAFE)

    def place(index: int) -> int:
        piece = bisect_right(starts, index) - 1
        return pieces[piece].start() + index - starts[piece]

    for phase in range(4):  # base64 of another phase is noise, so the words around do no harm
        coded = joined[phase:]
        raw = base64.b64decode(coded[: len(coded) & ~3])
        for run in _PRINTABLE.finditer(raw):
            plain = run[0].decode("ascii")
            if not is_language(plain):
                continue
            start = place(phase + run.start() * 4 // 3)
            end = place(min(phase + -(-run.end() * 4 // 3), total) - 1) + 1
            yield start, end, plain.strip()


def find_base64(text: str) -> Iterator[Span]:
    """Find base64: whole words of it, and runs of it that white space or punctuation splits, whatever stands around.

    Of finds that overlap the longest counts. Long words are also tried backwards and turned by 13.
    """
    found = sorted((*_tokens(text), *_runs(text)), key=lambda span: (-len(span[2]), span[0]))
    if len(found) > 1:
        taken = bytearray(len(text))
        kept = []
        for start, end, plain in found:
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                kept.append((start, end, plain))
        found = kept
    yield from found
    if found:
        return
    for match in _B64_BACK.finditer(text):
        token = match[0].strip("=")
        if token.islower() or token.isupper():
            continue
        for turned in (token[::-1], token.translate(_ROT13)):
            hidden = readable(_unbase64(turned), loose=True)
            if hidden is not None:
                yield (*match.span(), hidden)
                break


def find_base32(text: str) -> Iterator[Span]:
    """Find base32 in one case."""
    for match in _B32.finditer(text):
        coded = match[0].rstrip("=").upper()
        coded = coded[: len(coded) - (len(coded) % 8 in (1, 3, 6))]
        plain = readable(base64.b32decode(coded + "=" * (-len(coded) % 8)), loose=True)
        if plain is not None:
            yield (*match.span(), plain)


def find_base58(text: str) -> Iterator[Span]:
    """Find base58 of up to 1,400 characters: the time to read it grows with its square."""
    for match in _B58.finditer(text):
        token = match[0]
        if token.isalpha() and (token.islower() or token.isupper() or token.istitle()):
            continue
        value = 0
        for digit in token:
            value = value * 58 + _B58_DIGITS[digit]
        plain = readable(value.to_bytes(-(-value.bit_length() // 8), "big"), loose=True)
        if plain is not None:
            yield (*match.span(), plain)


def find_base85(text: str) -> Iterator[Span]:
    """Find base85 and Ascii85, framed or not."""
    for match in _B85.finditer(text):
        coded = match["coded"]
        if len(_SIGN.findall(coded)) < 3:
            continue
        bare = coded.split("~>")[0] if match["adobe"] else coded.rstrip("\"'`)")
        for decode in (base64.a85decode, base64.b85decode):
            for form in (bare, bare.rstrip(".,;:")):
                try:
                    plain = readable(decode(form.encode()), loose=True)
                except (ValueError, binascii.Error):
                    plain = None
                if plain is not None:
                    break
            if plain is not None:
                yield (*match.span(), plain)
                break
