"""Find words spelled in other signs: Morse code, radio alphabet, Braille, letters upside down, first letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gateway.text.bases import Span, readable
from gateway.text.language import is_prose, segment

_MORSE_LETTERS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. -....-"
)
_MORSE = dict(zip(_MORSE_LETTERS.split(), "abcdefghijklmnopqrstuvwxyz0123456789.,?-", strict=True))
_MORSE_RUN = re.compile(r"(?<![\w.–—−•·_-])[.•·–—−_-]{1,6}(?:[ \t\n/|]{1,5}[.•·–—−_-]{1,6}){7,}+(?![\w.–—−•·_-])")
_MORSE_SIGNS = str.maketrans("•·–—−_", "..----")
_MORSE_GAP = re.compile(r"\s*[/|\n]+\s*|\s{2,}")
_NATO = (
    "alpha|alfa bravo charlie delta echo foxtrot golf hotel india juliett|juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey|whisky x-ray|xray yankee zulu"
)
_SPELLED = {word: chr(97 + place) for place, pair in enumerate(_NATO.split()) for word in pair.split("|")}
_NATO_WORD = rf"(?:{'|'.join(_SPELLED)})"
_NATO_RUN = re.compile(rf"(?<!\w){_NATO_WORD}(?:[\s,;./|–-]{{1,3}}{_NATO_WORD}(?!\w)){{4,}}+", re.IGNORECASE)
_NATO_PART = re.compile(_NATO_WORD, re.IGNORECASE)
_BRAILLE = str.maketrans("⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵⠀⠂⠲⠦⠖", "abcdefghijklmnopqrstuvwxyz ,.?!")
_BRAILLE_RUN = re.compile(r"[\u2801-\u283f](?:[\u2800-\u28ff\s.,!?'-]{0,2000}[\u2801-\u283f])?")
_TURNED_SIGN = re.compile("[ɐɔǝɟƃɓɥᴉıɾʞɯɹʇʌʍʎ˙¿¡⅄∀]")
_TURNED_TABLE = str.maketrans(
    "ɐqɔpǝɟƃɓɥᴉıɾʞlʃɯuodbɹsʇnʌʍxʎz˙¿¡‾∀ƆƎℲפHIſ˥WNԀɹS┴∩ΛMX⅄", "abcdefgghiijkllmnopqrstuvwxyz.?!_ACEFGHIJLMNPRSTUVWXY"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_SILENT = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff]{24,}")
_FIRST = re.compile(r"^[^\w\n]{0,4}([^\W\d_])", re.MULTILINE)


def find_tags(text: str) -> Iterator[Span]:
    """Find text in Unicode's invisible tag characters, bytes in variation selectors, bits in zero-width characters."""
    if text.isascii():
        return
    for match in _TAGS.finditer(text):
        yield (*match.span(), "".join(chr(ord(letter) - 0xE0000) for letter in match[0]))
    for match in _SELECTORS.finditer(text):
        codes = (ord(letter) for letter in match[0])
        plain = readable(bytes(code - 0xFE00 if code < 0xFE10 else code - 0xE0100 + 16 for code in codes))
        if plain is not None:
            yield (*match.span(), plain)
    for match in _SILENT.finditer(text):
        kinds = sorted(set(match[0]), key=match[0].index)
        if len(kinds) == 2:
            for zero, one in (kinds, kinds[::-1]):
                bits = match[0].replace(zero, "0").replace(one, "1")
                plain = readable(bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)))
                if plain is not None:
                    yield (*match.span(), plain)
                    break


def find_morse(text: str) -> Iterator[Span]:
    """Find Morse code of 8 letters and more; words are parted by ``/``, ``|``, a line's end or a wide gap."""
    for match in _MORSE_RUN.finditer(text):
        coded = match[0].translate(_MORSE_SIGNS)
        parts = [[_MORSE.get(sign, "") for sign in word.split()] for word in _MORSE_GAP.split(coded)]
        plain = " ".join("".join(part) for part in parts)
        plain = segment(plain) if " " not in plain else plain
        if is_prose(plain):
            yield (*match.span(), plain)


def find_nato(text: str) -> Iterator[Span]:
    """Find words spelled in the radio alphabet (alpha, bravo, …), five letters and more."""
    for match in _NATO_RUN.finditer(text):
        pieces, end = [], match.start()
        gaps = []
        for part in _NATO_PART.finditer(text, match.start(), match.end()):
            gaps.append(text[end : part.start()])
            pieces.append(_SPELLED[part[0].lower()])
            end = part.end()
        usual = max(set(gaps[1:]), key=gaps[1:].count)
        plain = "".join((" " if gap and gap != usual else "") + piece for gap, piece in zip(gaps, pieces, strict=True))
        plain = " ".join(map(segment, plain.split()))
        if is_prose(plain):
            yield (*match.span(), plain)


def find_braille(text: str) -> Iterator[Span]:
    """Find letters in uncontracted Braille."""
    if not text.isascii():
        for match in _BRAILLE_RUN.finditer(text):
            if len(match[0]) > 3:
                yield (*match.span(), match[0].translate(_BRAILLE))


def find_turned(text: str) -> Iterable[Span]:
    """Find letters that stand upside down, read from the right, or each in its place."""
    if text.isascii() or len(_TURNED_SIGN.findall(text)) < 3:
        return ()
    plain = text.translate(_TURNED_TABLE)
    for reading in (plain[::-1], plain):
        if is_prose(reading):
            return ((0, len(text), reading),)
    return ()


def find_acrostic(text: str) -> Iterable[Span]:
    """Find words that the first letters of ten lines or more spell."""
    if text.count("\n") < 9:
        return ()
    letters = "".join(_FIRST.findall(text)).lower()
    plain = segment(letters) if len(letters) > 9 else letters
    return ((0, len(text), plain),) if plain != letters and is_prose(plain, share=0.9, long=0.75) else ()
