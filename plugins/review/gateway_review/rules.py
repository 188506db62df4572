"""Patterns of protected health information, with the checks that keep clinical numbers out. Pure, linear.

The kinds are those of HIPAA's safe-harbour list (45 CFR 164.514(b)(2)) that text can show. A number counts by its label
(``MRN: 123456``), its form (an e-mail, a grouped SSN) or its check digits (an NHS number), never by its length alone.
All repeats are bounded, so no text makes a pattern slow, and at most `WIDEST` characters decide that there is an
identifier: a growing text can be judged by stretches.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from msgspec import Struct

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR = r"(?:19|20)\d{2}"
_DATE = (
    rf"(?:{_YEAR}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"
    rf"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:{_YEAR}|\d{{2}})"
    rf"|(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?(?: of)?[ -]{_MONTH},?[ -]{_YEAR}"
    rf"|{_MONTH} (?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?,? {_YEAR})"
)
_CAPITAL = (
    r"(?!(?:The|This|That|And|With|Has|Had|Is|Was|In|On|At|For|Not|No|Who|Age|Sex|DOB|MRN|ID)\b)[A-ZÀ-ÖØ-Þ]"
    + r"(?:\.|(?:[^\W\d_]|['’-]){1,29})"
)
_NAME = rf"{_CAPITAL}(?:[ ]{_CAPITAL}){{0,3}}"
_LABEL_END = r"(?:[ \t]{0,3}(?:(?:no|number|num|nr|id)\b\.?|#))?[ \t]{0,3}(?:[:=#]|\bis\b)[ \t]{0,3}"
_CODE = r"(?=[A-Za-z0-9./-]{0,19}\d)[A-Za-z0-9](?:[A-Za-z0-9./-]{0,18}[A-Za-z0-9])"


def _nhs(digits: str) -> bool:
    """Check an NHS number by modulus 11 (NHS data dictionary)."""
    numbers = [int(c) for c in digits if c.isdigit()]
    if len(numbers) != 10 or len(set(numbers)) == 1:
        return False
    check = 11 - sum(n * weight for n, weight in zip(numbers, range(10, 1, -1), strict=False)) % 11
    return check != 10 and numbers[9] == check % 11


def _ssn(text: str) -> bool:
    """Leave out what is never given: areas 000, 666 and 900 up, group 00, serial 0000."""
    area, group, serial = re.split(r"[- ]", text)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _ip(text: str) -> bool:
    """Check an address; one of single digits is taken for a version."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return re.search(r"\d\d|:", text) is not None


def _many_digits(text: str) -> bool:
    return sum(c.isdigit() for c in text) >= 5


def _some_digits(text: str) -> bool:
    return sum(c.isdigit() for c in text) >= 3


def _phone(text: str) -> bool:
    return 9 <= sum(c.isdigit() for c in text) <= 15


WIDEST = 256
"""Characters that no pattern is wider than, with what it looks at before and after a match."""


class Rule(Struct, frozen=True, kw_only=True):
    """A pattern of identifiers of a `kind`, with a `score` in 0..1.

    It is tried where one of `hints` stands in the lowercase text, and where `need` is found in it; both are quick and
    hold of every match. The group ``value`` is the identifier, else the whole match. `tail` is what goes on after a
    match: it makes the identifier longer, and decides nothing. `check` judges the value.
    """

    kind: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    score: float = 0.9
    check: Callable[[str], bool] | None = None
    tail: re.Pattern[str] | None = None
    need: re.Pattern[str] | None = None


def _rule(
    kind: str,
    pattern: str,
    *,
    score: float = 0.9,
    check: Callable[[str], bool] | None = None,
    case: bool = False,
    hints: tuple[str, ...] = (),
    tail: str | None = None,
    need: re.Pattern[str] | None = None,
) -> Rule:
    return Rule(
        kind=kind,
        pattern=re.compile(pattern, 0 if case else re.IGNORECASE),
        score=score,
        check=check,
        hints=hints,
        tail=None if tail is None else re.compile(tail),
        need=need,
    )


_FOUR_DIGITS = re.compile(r"\d{4}")
_DATED = re.compile(r"\d{4}|\d[-/.]\d{1,2}[-/.]\d")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_ADDRESS_END = r"[^\s<>\"')\]]{0,2000}(?<![.,;:])"

RULES: tuple[Rule, ...] = (
    _rule(
        "EMAIL",
        r"(?<![\w.+-])[\w.+-]{1,64}@[\w-](?:[\w-]|\.(?=[\w-])){0,99}\.[a-z]{2,24}\b",
        score=0.98,
        hints=("@",),
    ),
    _rule(
        "URL",
        r"\b(?:https?://|www\.)[^\s<>\"')\]]{3}",
        score=0.4,
        hints=("://", "www."),
        tail=_ADDRESS_END,
    ),
    _rule(
        "URL",
        r"\b(?:https?://|www\.)[^\s<>\"')\]?]{3,120}(?:/patients?/|\?)[^\s<>\"')\]]{0,99}?\d",
        score=0.8,
        hints=("://", "www."),
        tail=_ADDRESS_END,
    ),
    _rule("IP", r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]{0,20}\d)", check=_ip, need=_DOTTED),
    _rule("IP", r"(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}(?::?[0-9a-f]{1,4}){1,4}(?![\w:])", check=_ip, hints=(":",)),
    _rule("SSN", r"(?<![\w-])\d{3}([- ])\d{2}\1\d{4}(?![\w-])", score=0.85, check=_ssn, need=_FOUR_DIGITS),
    _rule(
        "SSN",
        r"\b(?:ssn|social security)" + _LABEL_END + r"(?P<value>\d{3}[- ]?\d{2}[- ]?\d{4})\b",
        score=0.98,
        hints=("ssn", "social"),
    ),
    _rule("NHS", r"(?<![\w.-])\d{3}[ -]\d{3}[ -]\d{4}(?![\w-])", score=0.9, check=_nhs, need=_FOUR_DIGITS),
    _rule("NHS", r"\bnhs" + _LABEL_END + r"(?P<value>\d{3}[ -]?\d{3}[ -]?\d{4})\b", score=0.98, hints=("nhs",)),
    _rule(
        "MRN",
        r"\b(?:mrn|medical record(?: number)?|hospital (?:number|no\.?|id)|patient (?:id"
        r"|number|no\.?|identifier)|chart (?:number|no\.?)|record number|urn|unit number"
        r"|pat\.? ?id)" + _LABEL_END + rf"(?P<value>{_CODE})",
        check=_some_digits,
        hints=("mrn", "record", "hospital", "patient", "chart", "urn", "unit", "pat"),
    ),
    _rule("MRN", r"\bmrn[ \t]{1,3}(?P<value>\d{4,12})\b", hints=("mrn",)),
    _rule(
        "ACCESSION", r"\b(?:accession|acc\.?)" + _LABEL_END + rf"(?P<value>{_CODE})", check=_some_digits, hints=("acc",)
    ),
    _rule(
        "ACCOUNT",
        r"\b(?:account|acct|insurance(?: id| policy)?|policy|member(?:ship)?(?: id)?"
        r"|subscriber(?: id)?|beneficiary|health plan|medicare|medicaid|licen[cs]e"
        r"|passport|iban|card)" + _LABEL_END + rf"(?P<value>{_CODE})",
        check=_many_digits,
        hints=(
            "acc",
            "insur",
            "polic",
            "member",
            "subscr",
            "benef",
            "plan",
            "medica",
            "licen",
            "passp",
            "iban",
            "card",
        ),
    ),
    _rule(
        "DOB",
        r"\b(?:d\.?o\.?b\.?|date of birth|birth ?date|born(?: on)?|geb\.)[ \t]{0,3}[:=]?[ \t]{0,3}"
        + rf"(?P<value>{_DATE})(?!\d)",
        score=0.98,
        hints=("d.o", "dob", "birth", "born", "geb"),
    ),
    _rule("DATE", rf"(?<![\w./-]){_DATE}(?![\w/-]|\.\d)", score=0.6, need=_DATED),
    _rule(
        "PHONE",
        r"\b(?:tel|telephone|phone|mobile|cell|fax|pager|call|contact)\.?(?:[ \t](?:number"
        r"|no\.?|at|me at|us at|on))?[ \t]{0,3}[:=]?[ \t]{0,3}(?P<value>\+?\(?\d[\d ().-]{5,20}\d)(?![\d-])",
        check=lambda t: 7 <= sum(c.isdigit() for c in t) <= 15,
        hints=("tel", "phone", "mobile", "cell", "fax", "pager", "call", "contact"),
    ),
    _rule(
        "PHONE",
        r"(?<![\w./-])(?:\+\d{1,3}[ .-]?)(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}(?![\w-])",
        score=0.85,
        check=_phone,
        hints=("+",),
    ),
    _rule("PHONE", r"(?<![\w./-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}(?![\w-])", score=0.8, need=_FOUR_DIGITS),
    _rule(
        "ADDRESS",
        rf"(?<![\w.])\d{{1,5}}[a-z]? (?:{_CAPITAL} ){{1,3}}(?:Street|St|Avenue|Ave"
        rf"|Road|Rd|Lane|Ln|Drive|Boulevard|Blvd|Court|Place|Square|Terrace|Way|Close"
        rf"|Crescent|Parkway|Highway)\b\.?(?:,? (?:Apt|Apartment|Unit|Suite|Flat)\.? ?[\w-]{{1,6}})?"
        rf"(?:, {_CAPITAL}(?: {_CAPITAL}){{0,2}})?(?:,? [A-Z]{{2}} \d{{5}}(?:-\d{{4}})?)?",
        case=True,
        score=0.85,
    ),
    _rule(
        "ADDRESS",
        r"\b(?:home |postal |street )?address[ \t]{0,3}[:=][ \t]{0,3}(?P<value>[^\n;:.]{5,80})",
        score=0.85,
        hints=("address",),
    ),
    _rule("POSTCODE", r"\b[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}\b", case=True, score=0.75),
    _rule(
        "NAME",
        rf"\b(?i:(?:patient|pt|full|first|last|family|given|mother|father|next of kin"
        rf"|referring physician|physician|clinician|doctor|requested by|reported by"
        rf"|signed by|name of (?:the )?patient)(?:['’]s)?(?:[ ]name)?|name|surname)"
        rf"[ \t]{{0,3}}[:=][ \t]{{0,3}}(?P<value>(?:(?:Mr"
        rf"|Mrs|Ms|Miss|Dr|Prof)\.? )?{_CAPITAL}(?:,? {_CAPITAL}){{0,3}})",
        case=True,
        score=0.9,
        hints=(
            "name",
            "patient",
            "pt",
            "full",
            "first",
            "last",
            "family",
            "given",
            "mother",
            "father",
            "next of kin",
            "physician",
            "clinician",
            "doctor",
            "requested by",
            "reported by",
            "signed by",
        ),
    ),
    _rule(
        "NAME",
        rf"\b(?i:(?:the |this |our )?patient(?:['’]s name)?,? (?:is |named |called "
        rf"|name is )|(?:is |was |patient )named |my name is |i am called )(?P<value>(?:(?:Mr"
        rf"|Mrs|Ms|Miss|Dr)\.? )?{_CAPITAL} {_CAPITAL}(?: {_CAPITAL})?)",
        case=True,
        score=0.75,
        hints=("patient", "named", "my name is", "i am called"),
    ),
    _rule("NAME", r"(?<![\w^])[A-Z][A-Z'-]{1,29}(?:\^[A-Z][A-Z'-]{0,29}){1,3}(?![\w^])", case=True, hints=("^",)),
    _rule(
        "NAME",
        rf"\b(?:Mr|Mrs|Ms|Miss|Mx)\.? (?P<value>{_NAME})",
        case=True,
        score=0.85,
        hints=("mr", "ms", "miss", "mx"),
    ),
    _rule(
        "NAME",
        rf"\b(?:[Pp]atient|[Pp]t\.?),? (?P<value>{_CAPITAL} {_CAPITAL})(?=,? (?:aged?"
        rf"|\(?\d{{1,3}}|is a|was (?:seen|admitted|born|referred)|presented|presents"
        rf"|DOB|MRN|born))",
        case=True,
        score=0.8,
        hints=("patient", "pt"),
    ),
    _rule(
        "NAME",
        rf"\b(?i:signed|seen by|reported by|dictated by|dear|regards,?|sincerely,?)[ \t:\n]{{1,3}}(?P<value>(?:Dr"
        rf"|Prof|Mr|Mrs|Ms)\.? {_NAME})",
        case=True,
        score=0.7,
        hints=("signed", "seen by", "reported by", "dictated by", "dear", "regards", "sincerely"),
    ),
)
