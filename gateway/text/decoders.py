"""Find what is hidden in text by an encoding. Each finder gives spans of the text and what they say when decoded."""

from __future__ import annotations

import base64
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote_to_bytes

from gateway.text.language import hidden_spans, is_language, words
from gateway.text.turns import blank_tokens

Span = tuple[int, int, str]
"""Start and end in the text, in characters, and what it says when decoded."""

_B64_TOKEN = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{8,}={0,2}")
_B64_CHARS = re.compile(r"[A-Za-z0-9+/_-]+")
_URLSAFE = str.maketrans("-_", "+/")
_PRINTABLE = re.compile(rb"[\t\n\r\x20-\x7e]{12,}")
_HEX = re.compile(r"(?:0x|\\x)?[0-9A-Fa-f]{2}(?:[\s,:;_-]{0,3}(?:0x|\\x)?[0-9A-Fa-f]{2}){5,}+")
_HEX_MARK = re.compile(r"0x|\\x|[^0-9A-Fa-f]")
_BITS = re.compile(r"(?<![01])[01]{8}(?:\s{0,3}[01]{8}){3,}+(?![01])")
_CODES = re.compile(r"(?<!\d)\d{2,3}(?:[\s,;]{1,3}\d{2,3}){5,}+(?!\d)")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"\\u\{?[0-9A-Fa-f]{4,6}\}?|\\U[0-9A-Fa-f]{8}|&#x?[0-9A-Fa-f]{2,6};")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_LEET_WORD = re.compile(r"[A-Za-z0-9@$!|+€]{1,24}")
_LEET_HINT = re.compile(
    r"[A-Za-z][0134578@$!|+€]+[A-Za-z]|(?<![^\W_])[0134578@$!|+€]+[A-Za-z]{2}|[A-Za-z]{2}[0134578@$|€]"
)
_LEET = str.maketrans("0134578@$!|+€", "oieastbasilte")
_LEET_L = str.maketrans("0134578@$!|+€", "oleastbasllte")
_ROT13 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)
_ANY_WORD = re.compile(r"[^\W\d_]+")
_LEET_INSIDE = re.compile(r"[a-z][013457@$!]+(?=[a-z])")
_LETTERS = re.compile(r"[^\W\d_]")


def _readable(raw: bytes) -> str | None:
    """Give bytes as text where they are UTF-8 without controls, most of it letters and spaces."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text or not all(letter.isprintable() or letter in "\t\n\r" for letter in text):
        return None
    return text if len(_LETTERS.findall(text)) + text.count(" ") >= 0.7 * len(text) else None


def _unbase64(coded: str) -> bytes:
    coded = coded.rstrip("=").translate(_URLSAFE)
    if len(coded) % 4 == 1:
        coded = coded[:-1]
    return base64.b64decode(coded + "=" * (-len(coded) % 4))


def _base64_tokens(text: str) -> Iterator[Span]:
    """Find words that are base64 each; lines of one block are one find."""
    known = words()
    start = end = -1
    block: list[str] = []
    for match in _B64_TOKEN.finditer(text):
        token = match[0]
        if len(token) < 12 and "=" not in token and token.lower() in known:
            continue
        plain = _readable(_unbase64(token))
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


def find_base64(text: str) -> Iterator[Span]:
    """Find base64: whole words of it, and runs of it that white space or punctuation splits, whatever stands around."""
    found = list(_base64_tokens(text))
    taken = [(start, end) for start, end, _ in found]
    yield from found
    pieces = list(_B64_CHARS.finditer(text))
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
            plain = plain.strip()
            start = place(phase + run.start() * 4 // 3)
            end = place(min(phase + -(-run.end() * 4 // 3), total) - 1) + 1
            if not any(start < right and left < end for left, right in taken):
                taken.append((start, end))
                yield start, end, plain


def find_hex(text: str) -> Iterator[Span]:
    r"""Find hexadecimal, plain or with spaces, ``0x`` or ``\x``; and bytes written as binary or decimal numbers."""
    for match in _HEX.finditer(text):
        digits = _HEX_MARK.sub("", match[0].replace("0x", " ").replace("\\x", " "))
        plain = _readable(bytes.fromhex(digits[: len(digits) & ~1]))
        if plain is not None and (len(plain) >= 16 or is_language(plain)):
            yield (*match.span(), plain)
    for match in _BITS.finditer(text):
        digits = "".join(match[0].split())
        plain = _readable(int(digits, 2).to_bytes(len(digits) // 8, "big")) if len(digits) <= 8192 else None
        if plain is not None:
            yield (*match.span(), plain)
    for match in _CODES.finditer(text):
        codes = [int(code) for code in re.findall(r"\d+", match[0])]
        if all(code < 256 for code in codes):
            plain = _readable(bytes(codes))
            if plain is not None and is_language(plain):
                yield (*match.span(), plain)


def _whole(text: str, decode: Callable[[str], str]) -> Iterator[Span]:
    plain = decode(text)
    if plain != text:
        yield 0, len(text), plain


def find_url(text: str) -> Iterable[Span]:
    """Find percent-encoding, three bytes of it at least."""
    if text.count("%") < 3 or len(_PERCENT.findall(text)) < 3:
        return ()
    return _whole(text, lambda coded: unquote_to_bytes(coded.encode("utf-8", "replace")).decode("utf-8", "replace"))


def _character(match: re.Match[str]) -> str:
    mark = match[0]
    if mark.startswith("&"):
        return html.unescape(mark)
    value = int(mark.strip("\\uU{}"), 16)
    return chr(value) if value < 0xD800 or 0xDFFF < value < 0x110000 else "\ufffd"


def find_escapes(text: str) -> Iterable[Span]:
    r"""Find characters written as ``\u0068``, ``&#104;`` or ``&#x68;``, three of them at least."""
    if ("\\" not in text and "&#" not in text) or len(_ESCAPE.findall(text)) < 3:
        return ()
    return _whole(text, lambda coded: _ESCAPE.sub(_character, coded))


def find_tags(text: str) -> Iterator[Span]:
    """Find text in Unicode's invisible tag characters, or bytes in variation selectors."""
    if text.isascii():
        return
    for match in _TAGS.finditer(text):
        yield (*match.span(), "".join(chr(ord(letter) - 0xE0000) for letter in match[0]))
    for match in _SELECTORS.finditer(text):
        codes = (ord(letter) for letter in match[0])
        plain = _readable(bytes(code - 0xFE00 if code < 0xFE10 else code - 0xE0100 + 16 for code in codes))
        if plain is not None:
            yield (*match.span(), plain)


def _rot13(text: str) -> str:
    return text.translate(_ROT13)


def find_rot13(text: str) -> Iterator[Span]:
    """Find stretches that are language once each letter is turned by 13."""
    for start, end in hidden_spans(text, _rot13):
        yield start, end, _rot13(text[start:end])


def find_reversed(text: str) -> Iterator[Span]:
    """Find stretches that are language when read from right to left."""
    for start, end in hidden_spans(text, lambda word: word[::-1]):
        yield start, end, text[start:end][::-1]


def find_backwards(text: str) -> Iterator[Span]:
    """Find the same stretches, each word turned in its place."""
    for start, end in hidden_spans(text, lambda word: word[::-1]):
        yield start, end, _ANY_WORD.sub(lambda word: word[0][::-1], text[start:end])


def _unleet(word: str) -> tuple[str, bool]:
    """Give the word that a leet spelling means, and whether it is a known one."""
    bare = word.rstrip("!|+")
    known = words()
    for table in (_LEET, _LEET_L):
        for form in (word, bare):
            plain = form.translate(table).lower()
            if plain in known or plain == "a":
                return plain, True
    return word.translate(_LEET), False


def find_leet(text: str) -> Iterable[Span]:
    """Find digits and signs that stand for letters, where two words show it or a long one does.

    Clinical words (T2, L4-L5, 5mg, HbA1c, H1N1) mean no known word, and are left as they are.
    """
    text = blank_tokens(text)  # the bars of <|im_start|> are no letters
    if _LEET_HINT.search(text) is None:
        return ()
    proof = 0
    changes: list[Span] = []
    for match in _LEET_WORD.finditer(text):
        word = match[0]
        if word.isalpha():
            continue
        plain, sure = _unleet(word)
        letters = sum(letter.isalpha() for letter in word)
        if sure and len(plain) > 2 and letters:
            proof += 2 if len(plain) > 4 else 1
        elif not sure and plain.isalpha() and len(plain) > 5 and len(_LEET_INSIDE.findall(word)) > 1:
            proof += 1
        elif not sure and (letters < 2 or not plain.isalpha() or len(plain) < 4):
            continue
        elif sure and not letters and len(word) > 2:
            continue  # a number
        changes.append((match.start(), match.end(), plain))
    return changes if proof >= 2 else ()


FINDERS: tuple[tuple[str, Callable[[str], Iterable[Span]]], ...] = (
    ("tags", find_tags),
    ("base64", find_base64),
    ("hex", find_hex),
    ("url", find_url),
    ("escapes", find_escapes),
    ("rot13", find_rot13),
    ("leet", find_leet),
    ("reversed", find_reversed),
    ("backwards", find_backwards),
)
"""Every encoding that is undone, by the name its view gets."""
