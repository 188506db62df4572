"""What the encoder cannot read: other scripts, and other languages in Latin letters.

The encoder was trained on English. Text that it cannot read must not count as inspected, so these tests lean towards
"not read". Clinical English with Latin terms, Greek letters and names passes.
"""

from __future__ import annotations

import re
import unicodedata

MAX_SHARE = 0.2
"""The share of letters outside the Latin script above which a text is not read."""
MAX_LETTERS = 24
"""The number of such letters above which a text is not read, however long it is. One ideograph weighs three."""

_WORD = re.compile(r"[^\W\d_]+")

# Function words of other languages. Those that English or clinical shorthand spells alike prove nothing and are left
# out.
_FOREIGN_WORDS = """
de der und nicht wie ist eine einen einem ein mit für auf dem sich auch wird bitte kann vom diese dieses diesen mir wir
fr pour comment ce mon ma je du les dans qui vous cette avec nous ces aux quel
fr quelle être donne moi veux sans cet leur elle ils sont très où
es las por para cómo esta quiero hacer puedo qué sobre estos cuando muy más tengo necesito este como los
pt os uma como não está você eu fazer dos um pelo preciso meu minha isso quero esta para
it gli che questo questa sono della delle dei nel posso voglio senza degli perché anche modo
nl een voor niet hoe deze dit ik zijn naar dat mijn maak je wordt ook
pl jak nie jest się dla że tego mnie czy oraz przez
tr bir bu için nasıl ile bana olarak yap
sv och att det är inte hur jag för på
id yang untuk dengan ini itu bagaimana saya tidak dari pada adalah
ro și în este să cum pentru
cs že tento tuto aby jsem
vi là và của không làm thế nào tôi này để
"""
_FOREIGN: dict[str, list[str]] = {}
for _row in _FOREIGN_WORDS.strip().splitlines():
    for _each in _row.split()[1:]:
        _FOREIGN.setdefault(_each, []).append(_row.split()[0])
_ENGLISH_WORDS = """
the of and to a in is that it for on with as was this be at by are from or an have has how what which where when who
why can could should would does do did i you he she they we my your me please not no any all if there these those its
about into after before than then give show write tell explain patient seen image scan
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())


def foreign_letters(text: str) -> tuple[int, int]:
    """Count the letters of `text`: (outside the Latin script, all). An ideograph or syllable counts three times."""
    foreign = total = 0
    for char in text:
        if char.isascii():
            total += char.isalpha()
            continue
        if not char.isalpha():
            continue
        name = unicodedata.name(char, "")
        weight = 3 if name.startswith(("CJK", "HANGUL", "HIRAGANA", "KATAKANA")) else 1
        total += weight
        if not name.startswith(("LATIN", "MICRO", "OHM", "FEMININE", "MASCULINE")):
            foreign += weight
    return foreign, total


def other_language(text: str) -> bool:
    """Say whether `text` is, by its function words, in a language other than English written in Latin letters."""
    english = words = 0
    hits: dict[str, set[str]] = {}  # distinct words: ETT or IL-6, said often, is no language
    count = 0
    for match in _WORD.finditer(text.lower()):
        word = match.group()
        words += 1
        if word in _ENGLISH:
            english += 1
            continue
        languages = _FOREIGN.get(word, ())
        count += bool(languages)
        for language in languages:
            hits.setdefault(language, set()).add(word)
    most = max(map(len, hits.values()), default=0)
    return most >= 2 and count > english and count >= 0.08 * words


def readable(text: str) -> bool:
    """Say whether the encoder reads `text`. Give it the normalised reading, so that lookalike letters are folded."""
    plain = unicodedata.normalize("NFKC", text)
    foreign, total = foreign_letters(plain)
    if foreign > MAX_LETTERS or (foreign >= 4 and foreign > MAX_SHARE * total):
        return False
    return not other_language(plain)
