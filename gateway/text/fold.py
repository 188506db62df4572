"""Normalise text: one spelling for what looks the same to a reader."""

from __future__ import annotations

import re
import unicodedata

from gateway.text.joins import join
from gateway.text.language import words

# Characters that show nothing: Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties), the other format
# controls and ASCII's controls. Tag characters and variation selectors are among them.
_INVISIBLE = (
    "\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDDEN = re.compile(f"[{_INVISIBLE}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[\s\u2800]+")  # the blank Braille pattern is used as a space

# Lookalikes of Latin letters: a subset of confusables.txt (Unicode Technical Standard 39) for Cyrillic, Greek, Armenian
# and small capitals. Full-width and mathematical letters are folded by NFKC.
_STRICT = dict(
    zip(
        "асеорхуіјѕһԁԛԝѵАВЕКМНОРСТХІЈЅԌҮҺΑΒΕΖΗΙΚΜΝΟΡΤΥΧοноսԼՕᴀᴄᴏѕⅼ",
        "aceopxyijshdqwvABEKMHOPCTXIJSGYhABEZHIKMNOPTYXoHouLOacosl",
        strict=True,
    )
)
# Those that only resemble one; they count within a word that is Latin besides.
_LOOSE = _STRICT | dict(
    zip(
        "вгкмнптьиёєзҝӏԍғґαβγεηικνρστυχωցհոօʙᴅᴇɢʜɪᴊᴋʟᴍɴᴘʀᴛᴜᴠᴡʏᴢɑɡıȷɩ",
        "brkmhntbueezklgfrabyenikvpotuxwghnobdeghijklmnprtuvwyzagiji",
        strict=True,
    )
)
_FOREIGN = re.compile("[\u0250-\u02af\u0370-\u03ff\u0400-\u052f\u0530-\u058f\u1d00-\u1d7f\u2170-\u217f]")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_MARKS = re.compile("(?<=[A-Za-z])[\u0300-\u036f\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_MARK = "[\u0300-\u036f\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACK = re.compile(f"(?<=[A-Za-z]){_MARK}{{3,}}")  # no spelling has three on a letter; Vietnamese has two
_STACKABLE = re.compile(f"[^\\W\\d_]{_MARK}{{2}}")
_NO_MARK = re.compile(_MARK)
_ACCENTED = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f]+")
_ROUNDS = 8


def _shapes() -> dict[int, str]:
    """Give the letters in boxes, circles, as flags and as small capitals, which NFKC leaves as they are."""
    table = {block + place: chr(65 + place) for block in (0x1F150, 0x1F170, 0x1F1E6) for place in range(26)}
    return table | dict(zip(map(ord, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ"), "abcdefghijklmnopqrstuvwyz", strict=True))


_SHAPES = _shapes()


def _fold_word(match: re.Match[str]) -> str:
    """Fold the lookalikes of a word that mixes scripts; Greek at the edge of a symbol (TNFα, βhCG, µg) stays."""
    word = match[0]
    if _FOREIGN.search(word) is None or _LATIN.search(word) is None:
        return word
    folded = "".join(_LOOSE.get(letter, letter) for letter in word)
    if folded.lower() in words():
        return folded
    body = word
    head = tail = ""
    latin = "".join(_LATIN.findall(word))
    if len(latin) <= 3 or latin.isupper():
        if "\u0370" <= word[0] <= "\u03ff" and word[0].islower():
            head, body = body[0], body[1:]
        if body and "\u0370" <= body[-1] <= "\u03ff" and body[-1].islower():
            body, tail = body[:-1], body[-1]
    return head + "".join(_LOOSE.get(letter, letter) for letter in body) + tail


def _fold(text: str) -> str:
    """Fold lookalikes in words that mix scripts, and words all of lookalikes whose neighbours are Latin."""
    if _FOREIGN.search(text) is None:
        return text
    before, text = text, _WORD.sub(_fold_word, text)
    found = list(_WORD.finditer(text))
    latin = [_LATIN.match(word[0]) is not None for word in found]
    hides = sum(a != b for a, b in zip(before, text, strict=True)) > 4  # then letters alone are no symbols either
    table = _LOOSE if hides else _STRICT
    pieces, done = [], 0
    for place, word in enumerate(found):
        if latin[place] or (len(word[0]) < 2 and not hides) or any(letter not in table for letter in word[0]):
            continue
        around = latin[max(place - 3, 0) : place] + latin[place + 1 : place + 4]
        if around and sum(around) * 2 > len(around):
            pieces += [text[done : word.start()], "".join(table[letter] for letter in word[0])]
            done = word.end()
    return "".join(pieces) + text[done:]


def _unaccented(text: str) -> str:
    """Take the accents from words that are English without them, where three such words show that it was done to hide.

    Names (Sjögren) are no words of English, so they keep theirs; so does text in a language that is written with them.
    """
    if text.isascii():
        return text
    accented = [match for match in _ACCENTED.finditer(text) if not match[0].isascii()]
    if len(accented) < 3:
        return text
    known = words()
    changes = []
    for match in accented:
        plain = _NO_MARK.sub("", unicodedata.normalize("NFD", match[0]))
        if len(plain) > 2 and plain.lower() in known:
            changes.append((match.start(), match.end(), plain))
    if len({plain for _, _, plain in changes}) < 3 or len(changes) * 2 < len(accented):
        return text
    pieces, done = [], 0
    for match in accented:
        pieces += [text[done : match.start()], _NO_MARK.sub("", unicodedata.normalize("NFD", match[0]))]
        done = match.end()
    return "".join(pieces) + text[done:]


def _once(text: str) -> str:
    if not text.isascii():
        text = _HIDDEN.sub("", _SURROGATE.sub("\ufffd", text))
        if _STACK.search(text) or _STACKABLE.search(text):
            text = _STACK.sub("", unicodedata.normalize("NFD", text))
        text = unicodedata.normalize("NFKC", text.translate(_SHAPES))
        text = _unaccented(_fold(_MARKS.sub("", _HIDDEN.sub("", text))))
    else:
        text = _HIDDEN.sub("", text)
    return _SPACE.sub(" ", join(text)).strip()


def normalise(text: str) -> str:
    """Give `text` in one spelling: what looks the same to a reader becomes the same.

    Compatibility forms are unified (NFKC), what shows nothing is removed, lookalikes become Latin in words that mix
    scripts or stand among Latin words, stacked marks go, spaced-out words (``f o r g e``) are joined, and any white
    space becomes one space. Signs of clinical text stay readable: ``µg``, ``β-blocker``, ``±``; a sentence that is
    Cyrillic or Greek stays as it is. Unpaired surrogates become U+FFFD. Applying it twice changes nothing more. Time is
    linear.
    """
    for _ in range(_ROUNDS):
        again = _once(text)
        if again == text:
            break
        text = again
    return text
