"""What the encoder cannot read: other scripts, and other languages in Latin letters.

The encoder was trained on English. Text that it cannot read must not count as inspected, so these tests lean towards
"not read". Clinical English with Latin terms, Greek letters, abbreviations and names passes. A naive Bayes model over
byte n-grams of 140 languages (py3langid, BSD-3-Clause) says how likely a text is English; figures and reasons are in
the decision 0041.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import islice
from typing import Any

MAX_SHARE = 0.2
"""The share of letters outside the Latin script above which a text is not read."""
MAX_LETTERS = 24
"""The number of such letters above which a text is not read, however long it is. One ideograph weighs three."""
ENGLISH = 0.02
"""The probability of English, of a whole text, at or below which it is not read."""
PASSAGE = 0.002
"""The same of a passage of a longer text; stricter, since a long text has many."""
MIN_WORDS = 3
"""A text of fewer words, names and abbreviations left out, is too short to tell its language: it counts as read."""
WINDOW = 12
"""Words of a passage."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_CODE = re.compile(r"\S*\d\S*")  # T2N1M0, 7.5mg, HbA1c
_NAME_BEFORE = " \"'(¿¡“‘"

# Function words of other languages, for those that the model knows too little of or that mix with English words, and
# for two languages in one text. Those that English or clinical shorthand spells alike prove nothing and are left out.
_FOREIGN_WORDS = """
de der und nicht wie ist eine einen einem ein mit für auf dem sich auch wird bitte kann vom diese dieses diesen mir wir
fr pour comment ce mon ma je du les dans qui vous cette avec nous ces aux quel
fr quelle être donne moi veux sans cet leur elle ils sont très où
es las por para cómo esta quiero hacer puedo qué sobre estos cuando muy más tengo necesito este como los que una mi sin
pt os uma como não está você eu fazer dos um pelo preciso meu minha isso quero esta para
it gli che questo questa sono della delle dei nel posso voglio senza degli perché anche modo dimmi
nl een voor niet hoe deze dit ik zijn naar dat mijn maak je wordt ook
pl jak nie jest się dla że tego mnie czy oraz przez żeby nikt
tr bir bu için nasıl ile bana olarak yap
sv och att det är inte hur jag för på
id yang untuk dengan ini itu bagaimana saya tidak dari pada adalah tanpa
ro și în este să cum pentru
cs že tento tuto aby jsem
vi là và của không làm thế nào tôi này để
hi kya hai hain mujhe kaise nahi nahin mein ko ki ka ke apne bina batao chahiye karo likh taki aur kisi jhooti nakli ye
ar ezay kif momken 3ayz 3ashan mish ana enta el fi w gher ma2
zh wo ni shi zhe zen yang yi de bu hui xie gei yao zai ge fen bang
ja wa wo ga ni desu kudasai shite houhou oshiete arimasu kaite naku tame
ru kak chto eto ya ne chtoby nikto dlya bez mne menya napishi
el pos na mia to kai tin den mou xoris kaneis
ko eul reul eun neun wihan haneun bangbeob
bn keu ke kivabe amake bolo amar chai
"""
_FOREIGN: dict[str, list[str]] = {}
for _row in _FOREIGN_WORDS.strip().splitlines():
    for _each in _row.split()[1:]:
        _FOREIGN.setdefault(_each, []).append(_row.split()[0])
_ENGLISH_WORDS = """
the of and to a in is that it for on with as was this be at by are from or an have has how what which where when who why
can could should would does do did i you he she they we my your me please not no any all if there these those its us him
her his their about into after before than then give show write tell explain but so out up over under between without
within more most some only also just get make made put take use used need needs want look see find new old since still
being been were had will may might must anyone anything somebody nobody every each other same one two three
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_CLINICAL_WORDS = """
patient patients seen image images scan scans report normal left right upper lower lobe lung lungs chest pain heart
brain liver kidney hip knee spine wrist hand arm leg head neck abdomen pelvis fracture mass lesion nodule effusion
oedema edema contrast axial sagittal coronal plane view side type stage grade dose daily weekly mild moderate severe
acute chronic disease diseases syndrome diagnosis findings impression technique history negative positive present absent
large small bilateral lumbar thoracic cervical cranial pulmonary pleural cardiac renal hepatic ventricular mitral aortic
soft tissue bone joint skin eye blood function origin insertion artery vein nerve muscle sign signs lines line tube
position location organ shown modality pathology risk therapy treatment drug drugs tablet tablets nasal spray insulin
steroids fever cough vomiting dizzy tired breath injury hurt infection cancer tumor tumour doctor hospital ward nurse
insurance fake forge steal kill bypass pump lock prescription pharmacy false versus plus gas man woman child baby year
years day days ago month study compare prior change grow opacity opacities peripheral network ring rings spots criteria
guideline classification score scale region vaccination travel macules forms
spots fort café au lait cri chat tic douloureux grand petit mal torsades pointes
"""
_CLINICAL = frozenset(_CLINICAL_WORDS.split())
# What JSON Schemas, tools and response formats are written in: a short one says little else.
_SCHEMA_WORDS = """
type json schema object string number integer boolean array items properties required additionalproperties enum const
name function parameters description strict title format auto default minimum maximum pattern anyof null true false
"""
_SCHEMA = frozenset(_SCHEMA_WORDS.split())
# Endings of medical terms and of drugs' international names: such words are the same in many languages, and prove none.
_TERM = re.compile(
    r"\w{3,}(?:itis|oma|osis|emia|aemia|ectomy|otomy|ostomy|graphy|scopy|pathy|megaly|ectasis|algia|plegia|uria|rrhoea"
    r"|rrhea|mab|nib|pril|sartan|olol|statin|cillin|mycin|floxacin|conazole|prazole|vir|gliflozin|gliptin|glutide|setron"
    r"|caine|azepam|zolam|dipine|parin|xaban|formin|profen|oxen|ofenac|lactone|thyroxine|dronate|triptan|zepatide|taxel)"
)
# Latin in clinical use are nouns and adjectives; words of Latin sentences are these.
_LATIN_WORDS = """
quomodo ut ita sed est sunt mihi meum meam tibi nemo quod qui quae non ego possum volo scribe quam hoc esse habeo si aut
neque ne te me
"""
_LATIN_GRAMMAR = frozenset(_LATIN_WORDS.split())


@cache
def model() -> Any:
    """Load the language model, once: about a second and 20 MiB. None where the library is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


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


def plain_words(text: str) -> tuple[list[str], bool]:
    """Give the words that tell a language, in lower case, and whether names or abbreviations were left out of them.

    Where most words begin with a capital, these are no sign of a name, and those of four letters and more are kept.
    """
    text = _CODE.sub(" ", text)
    found = [match for match in _WORD.finditer(text) if len(match[0]) > 1]
    if sum(match[0][0].isupper() for match in found) * 2 > len(found):
        kept = [match[0].lower() for match in found if len(match[0]) > 3 or not match[0].isupper()]
        return kept, len(kept) < len(found)
    kept = []
    for match in found:
        word = match[0]
        if word.isupper():
            continue
        if word[0].isupper():
            before = text[max(match.start() - 4, 0) : match.start()].rstrip(_NAME_BEFORE)
            if before and before[-1] not in ".!?:\n":
                continue
        kept.append(word.lower())
    return kept, len(kept) < len(found)


def _foreign(text: str, limit: float) -> bool:
    """Say whether a text or a passage is in another language: English is at most `limit` likely."""
    words, shorter = plain_words(text)
    known = sum(word in _ENGLISH or word in _CLINICAL or word in _SCHEMA for word in words)
    terms = sum(word not in _CLINICAL and _TERM.fullmatch(word) is not None for word in words)
    telling = len(words) - terms
    if telling < MIN_WORDS or known * 2 >= telling:
        return False
    identifier = model()
    if identifier is None:
        return False
    for form in (text.lower(), " ".join(words)) if shorter else (text.lower(),):
        ranked = identifier.rank(form)
        if ranked[0][0] == "la" and sum(word in _LATIN_GRAMMAR for word in words) < 2:
            return False
        if dict(ranked)["en"] > limit:
            return False
    return True


def readable(text: str) -> bool:
    """Say whether the encoder reads `text`. Give it the normalised reading, so that lookalike letters are folded.

    The whole text is judged, and each dozen words of it: English around a request in another language does not make
    that one readable. Time is linear.
    """
    plain = unicodedata.normalize("NFKC", text).encode("utf-8", "replace").decode()
    foreign, total = foreign_letters(plain)
    if foreign > MAX_LETTERS or (foreign >= 4 and foreign > MAX_SHARE * total):
        return False
    if other_language(plain):
        return False
    if _foreign(plain[:4_000], ENGLISH):
        return False
    return not any(_foreign(passage, PASSAGE) for passage in _passages(plain))


def _passages(text: str) -> list[str]:
    """Cut a text of more than a dozen words into runs of so many, each beginning where half of the last one stood."""
    starts = [match.start() for match in islice(re.finditer(r"\S+", text), 1 << 20)]
    if len(starts) <= WINDOW:
        return []
    starts.append(len(text))
    step = WINDOW // 2
    return [text[starts[at] : starts[min(at + WINDOW, len(starts) - 1)]] for at in range(0, len(starts) - step, step)]
