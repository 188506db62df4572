"""Find stretches whose letters or words were exchanged or turned round: Caesar, Atbash, reversal, pig latin, leet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise, product
from string import ascii_lowercase, ascii_uppercase

from gateway.text.bases import Span
from gateway.text.language import Word, hidden_spans, is_prose, read_words, words
from gateway.text.turns import blank_tokens

Found = Iterator[tuple[str, list[Span]]]

_ANY_WORD = re.compile(r"[^\W\d_]+")
_ATBASH = str.maketrans(ascii_lowercase + ascii_uppercase, ascii_lowercase[::-1] + ascii_uppercase[::-1])
_ROT47 = str.maketrans({33 + at: 33 + (at + 47) % 94 for at in range(94)})
_ROT47_SIGN = re.compile(r"[A-Za-z][^\w\s.,;:!?'\"()-]|[^\w\s.,;:!?'\"()-][A-Za-z0-9]|(?<=\S)[?:;@=<>][A-Za-z?:;@=<>]")
_LEET_WORD = re.compile(r"[A-Za-z0-9@$!|+€(]{1,24}")
_LEET_HINT = re.compile(
    r"[A-Za-z][0134578@$!|+€]+[A-Za-z]|(?<![^\W_])[0134578@$!|+€]+[A-Za-z]{2}|[A-Za-z]{2}[0134578@$|€]"
)
_LEET = {
    "0": "o", "1": "il", "2": "z", "3": "e", "4": "a", "5": "s", "6": "gb", "7": "tl", "8": "b", "9": "g", "@": "a",
    "$": "s", "!": "il", "|": "il", "+": "t", "€": "e", "(": "c",
}  # fmt: skip
_LEET_FIRST = str.maketrans({sign: letters[0] for sign, letters in _LEET.items()})
_LEET_INSIDE = re.compile(r"[a-z][013457@$!]+(?=[a-z])")
_PIG = re.compile(r"([a-z]+?)([bcdfghjklmnpqrstvwxyz]*)ay", re.IGNORECASE)
_PIG_HINT = re.compile(r"[a-z]ay\b[^\w\n]+(?:[a-z]+[^\w\n]+)?[a-z]*ay\b", re.IGNORECASE)
_LINE = re.compile(r"[^\n]{12,}")
_ARTICLES = frozenset(("the", "a", "an", "my", "your", "his", "their", "our"))
_NEVER = "of in on at to for from with by is are was were does did that and it the a an this which what"
_AFTER = frozenset(_NEVER.split())  # what no article stands before
_BACK = frozenset({("to", "how"), ("do", "how"), ("can", "how"), ("me", "tell"), ("me", "give"), ("is", "what")})


def rotation(by: int) -> dict[int, int]:
    """Give the table that moves each letter `by` places on in the alphabet."""
    turned = ascii_lowercase[by:] + ascii_lowercase[:by]
    return str.maketrans(ascii_lowercase + ascii_uppercase, turned + turned.upper())


_ROTATIONS = tuple(rotation(by) for by in range(26))


def _shape(word: bytes) -> bytes:
    """Give the steps between the letters of a lowercase word: Caesar's cipher changes all but these."""
    return bytes((right - left) % 26 for left, right in pairwise(word))


@cache
def _shapes() -> dict[bytes, tuple[int, ...]]:
    """Give the first letters of the known words of each shape, for words of four letters and more."""
    shapes: dict[bytes, tuple[int, ...]] = {}
    for word in words():
        if len(word) > 3:
            coded = word.encode()
            shape = _shape(coded)
            shapes[shape] = (*shapes.get(shape, ()), coded[0])
    return shapes


def _shifts(found: list[Word]) -> list[int]:
    """Give the shifts, at most three and never 13, that two unknown words or more of a text would be undone by."""
    shapes = _shapes()
    votes: Counter[int] = Counter()
    for word in {word.low for word in found if not word.known and len(word.low) > 3}:
        coded = word.encode()
        for first in shapes.get(_shape(coded), ()):
            votes[(first - coded[0]) % 26] += 1
    return [shift for shift, count in votes.most_common(4) if count > 1 and shift not in (0, 13)][:3]


def _turner(table: dict[int, int]) -> Callable[[str], str]:
    return lambda word: word.translate(table)


def find_ciphers(text: str) -> Found:
    """Find stretches that are language once letters are exchanged (Caesar, Atbash) or read from right to left.

    Names: ``rot13``, ``caesar``, ``atbash``, ``reversed``, and ``backwards`` for each word turned in its place.
    """
    found = read_words(text)
    if sum(not word.known for word in found) < 2:
        return
    tables = [("rot13", _ROTATIONS[13], 2.0), ("atbash", _ATBASH, 2.5)]
    tables += [("caesar", _ROTATIONS[shift], 3.0) for shift in _shifts(found)]
    for name, table, least in tables:
        spans = [
            (start, end, text[start:end].translate(table)) for start, end in hidden_spans(found, _turner(table), least)
        ]
        if spans:
            yield name, spans
    turned = list(hidden_spans(found, lambda word: word[::-1]))
    if turned:
        yield "reversed", [(start, end, text[start:end][::-1]) for start, end in turned]
        yield (
            "backwards",
            [(start, end, _ANY_WORD.sub(lambda word: word[0][::-1], text[start:end])) for start, end in turned],
        )


def find_rot47(text: str) -> Iterator[Span]:
    """Find lines whose printable ASCII characters are turned by 47."""
    if len(_ROT47_SIGN.findall(text[:4_000])) < 3:
        return
    for match in _LINE.finditer(text):
        if len(_ROT47_SIGN.findall(match[0])) > 2 and not is_prose(match[0], share=0.3):
            plain = match[0].translate(_ROT47)
            if is_prose(plain):
                yield (*match.span(), plain)


def _unleet(word: str) -> tuple[str, bool]:
    """Give the word that a leet spelling means, and whether it is a known one."""
    known = words()
    for form in (word, word.rstrip("!|+(")):
        options = [_LEET.get(letter, letter) for letter in form.lower()]
        if sum(len(option) > 1 for option in options) > 5:
            options = [option[0] for option in options]
        for letters in product(*options):
            plain = "".join(letters)
            if plain in known or plain == "a":
                return plain, True
    return word.translate(_LEET_FIRST), False


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
        bare = word.lstrip("(").rstrip("!|+(")
        if word.isalpha() or (bare.isalpha() and (len(bare) > 2 or bare.lower() in words())):
            continue  # a bracket or an exclamation mark beside a word
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


def _unpig(match: re.Match[str]) -> str:
    """Undo one word: the consonants before its `ay` stood before it, as many as make a known word."""
    known = words()
    stem = (match[1] + match[2]).lower()
    for moved in range(min(len(match[2]), 4) + 1):
        word = stem[len(stem) - moved :] + stem[: len(stem) - moved]
        if word in known or word in ("a", "i"):
            return word
        if moved == 1 and stem.endswith("w") and (stem[:-1] in known or stem[:-1] in ("a", "i")):
            return stem[:-1]
    return match[2].lower() + match[1].lower()


def find_pig(text: str) -> Iterator[Span]:
    """Find lines in pig latin."""
    if _PIG_HINT.search(text) is None:
        return
    for match in _LINE.finditer(text):
        found = [word.lower() for word in _ANY_WORD.findall(match[0])]
        if len(found) > 3 and sum(word.endswith("ay") for word in found) * 3 >= 2 * len(found):
            plain = re.sub(r"[A-Za-z]+", lambda word: _PIG.sub(_unpig, word[0]), match[0])
            if is_prose(plain):
                yield (*match.span(), plain)


def find_order(text: str) -> Iterator[Span]:
    """Find lines whose words stand in reverse: no article stands before a preposition (``hip the of fracture``)."""
    for match in _LINE.finditer(text):
        found = match[0].split()
        if len(found) < 5:
            continue
        low = [word.lower() for word in found]
        odd = usual = 0
        for pair in pairwise(low):
            odd += (pair[0] in _ARTICLES and pair[1] in _AFTER) or pair in _BACK
            usual += pair[0] in _AFTER and pair[1] in _ARTICLES
        first, last = found[0], found[-1]
        odd += first[-1] in ".?!" and first[:-1].isalpha() and len(first) > 3 and last[-1].isalnum()
        odd += last.istitle() and not first[0].isupper()
        if usual * 3 > odd:
            continue
        if odd > 1:
            yield (*match.span(), " ".join(reversed(found)))
