"""Undo what breaks words up: signs, tags and brackets between letters, no spaces, letters written twice and more."""

from __future__ import annotations

import re

from gateway.text.language import is_prose, segment, words

_SPACED = re.compile(r"(?<![^\W_])[^\W\d_](?:[\s.\-_*|~·/]{1,4}[^\W\d_](?![^\W_])){3,}+")
_BETWEEN = re.compile(r"[\s.\-_*|~·/]+")
_SIGNED = re.compile(r"(?<![^\W_])[^\W\d_](?:[^\w()\[\]{}]{1,4}[^\W\d_](?![^\W_])){6,}+")
_SIGNS = re.compile(r"[^\w()\[\]{}]+")
_BOXED = re.compile(r"(?:[\[({<][^\W\d_][\])}>][\s]{0,2}){4,}+")
_BOX = re.compile(r"[\[({<](.)[\])}>]")
_TAGGED = re.compile(
    r"(?<=[A-Za-z])(?:/\*[^*]{0,40}\*/|<!--[^>]{0,40}-->|</?(?:b|i|u|em|wbr|span|font|strong|small|sub|sup|x)/?>)++"
    r"(?=[A-Za-z])"
)
_BOLD = re.compile(r"(\*{1,3}|_{2}|~~|`)(?=[A-Za-z])([A-Za-z]{1,4})\1(?=[A-Za-z])")
_LONG = re.compile(r"(?<![^\W_])[A-Za-z]{22,}(?![^\W_])")
_LONGISH = re.compile(r"(?<![^\W_])[A-Za-z]{9,}(?![^\W_])")
_DOUBLE = re.compile(r"(?<![^\W_])(?:([A-Za-z])\1)++(?![^\W_])")
_DOUBLED = re.compile(r"(?<![^\W_])(?:([A-Za-z])\1){3,}+(?![^\W_])")
_STRETCHED = re.compile(r"(?<![^\W_])(?=[A-Za-z]*([A-Za-z])\1\1)[A-Za-z]{4,}(?![^\W_])")
_TRIPLE = re.compile(r"([A-Za-z])\1{2,}+", re.IGNORECASE)
_THRICE = re.compile(r"([A-Za-z])\1\1")
_WORD = re.compile(r"[^\W\d_]+")


def _join(match: re.Match[str]) -> str:
    """Join the letters of a run, and part words where the gap is wider than the commonest, or by the word list."""
    gaps = _BETWEEN.findall(match[0])
    usual = max(set(gaps), key=lambda gap: (gaps.count(gap), -len(gap), gap)) if len(gaps) < 512 else min(gaps, key=len)
    letters = _BETWEEN.sub("", match[0])
    parts, start = [], 0
    for place, gap in enumerate(gaps, 1):
        if len(gap) > len(usual) or (gap.isspace() and not usual.isspace()):
            parts.append(letters[start:place])
            start = place
    parts.append(letters[start:])
    if not usual.isspace() and max(map(len, parts)) < 5:
        return match[0]  # q.i.d. p.o. and the like
    return " ".join(map(segment, parts))


def _join_signs(match: re.Match[str]) -> str:
    """Join letters that any sign parts, where they are words: a list of options (A, B, C) is none."""
    plain = segment(_SIGNS.sub("", match[0]))
    return plain if is_prose(plain, share=0.7) else match[0]


def _part(match: re.Match[str]) -> str:
    """Part words that were written without spaces; long medical words hold short ones by chance."""
    plain = segment(match[0])
    return plain if len(match[0]) > 39 or is_prose(plain, share=0.8, long=0.5) else match[0]


def _once_each(match: re.Match[str]) -> str:
    return match[0][::2]


def _unstretch(match: re.Match[str]) -> str:
    """Give a stretched word as it is spelled, if that is a known word: each run of a letter once, or twice."""
    word, known = match[0], words()
    for short in (r"\1", r"\1\1"):
        plain = _TRIPLE.sub(short, word)
        if len(plain) > 1 and plain.lower() in known:
            return plain
    return word if len(set(word.lower())) < 3 else _TRIPLE.sub(r"\1", word)


def join(text: str) -> str:
    """Give `text` with its words whole. What is not broken up stays as it is. Time is linear."""
    if "<" in text or "/*" in text:
        text = _TAGGED.sub("", text)
    text = _BOXED.sub(lambda match: _BOX.sub(r"\1", match[0]), text)
    text = _SPACED.sub(_join, text)
    text = _SIGNED.sub(_join_signs, text)
    if "*" in text or "__" in text or "~" in text or "`" in text:
        text = _BOLD.sub(r"\2", text)
    if _DOUBLED.search(text) is not None:
        doubled = len(_DOUBLE.findall(text))
        if doubled > 2 and doubled * 10 > 6 * len(_WORD.findall(text)):
            text = _DOUBLE.sub(_once_each, text)
    if _THRICE.search(text) is not None:
        text = _STRETCHED.sub(_unstretch, text)
    if len(text) > 30 and text.count(" ") * 24 < len(text):  # hardly a space in it: shorter words may be several too
        return _LONGISH.sub(_part, text)
    return _LONG.sub(_part, text)
