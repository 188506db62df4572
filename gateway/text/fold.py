"""Normalise text: one spelling for what looks the same to a reader."""

from __future__ import annotations

import re
import unicodedata

from gateway.text.language import segment

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
_SPACED = re.compile(r"(?<![^\W_])[^\W\d_](?:[\s.\-_*|~·/]{1,4}[^\W\d_](?![^\W_])){3,}+")
_BETWEEN = re.compile(r"[\s.\-_*|~·/]+")
_ROUNDS = 8


def _fold_word(match: re.Match[str]) -> str:
    """Fold the lookalikes of a word that mixes scripts; Greek at the edge of a symbol (TNFα, βhCG, µg) stays."""
    word = match[0]
    if _FOREIGN.search(word) is None or _LATIN.search(word) is None:
        return word
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
    text = _WORD.sub(_fold_word, text)
    words = list(_WORD.finditer(text))
    latin = [_LATIN.match(word[0]) is not None for word in words]
    pieces, done = [], 0
    for place, word in enumerate(words):
        if latin[place] or len(word[0]) < 2 or any(letter not in _STRICT for letter in word[0]):
            continue
        around = latin[max(place - 3, 0) : place] + latin[place + 1 : place + 4]
        if around and sum(around) * 2 > len(around):
            pieces += [text[done : word.start()], "".join(_STRICT[letter] for letter in word[0])]
            done = word.end()
    return "".join(pieces) + text[done:]


def _join(match: re.Match[str]) -> str:
    """Join the letters of a run, and part words where the gap is wider than the commonest, or by the word list."""
    gaps = _BETWEEN.findall(match[0])
    usual = max(set(gaps), key=lambda gap: (gaps.count(gap), -len(gap), gap)) if len(gaps) < 512 else min(gaps, key=len)
    letters = _BETWEEN.sub("", match[0])
    parts, start = [], 0
    for place, gap in enumerate(gaps, 1):
        if len(gap) > len(usual):
            parts.append(letters[start:place])
            start = place
    parts.append(letters[start:])
    if not usual.isspace() and max(map(len, parts)) < 5:
        return match[0]  # q.i.d. p.o. and the like
    return " ".join(map(segment, parts))


def _once(text: str) -> str:
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
        text = unicodedata.normalize("NFKC", _HIDDEN.sub("", text))
        text = _fold(_MARKS.sub("", _HIDDEN.sub("", text)))
    else:
        text = _HIDDEN.sub("", text)
    return _SPACE.sub(" ", _SPACED.sub(_join, text)).strip()


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
