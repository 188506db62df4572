"""Which modality a user says the image is of.

Only plain statements about the image count (``this chest X-ray``, ``the attached MRI``), and only where one modality
is named in the whole turn: a question (``is this a CT?``), an order (``should I get an MRI?``), or a comparison states
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.plugin import Modality

_NAMES: dict[Modality, str] = {
    "mammography": r"mammogra(?:m|ms|phy|phic)|tomosynthes[ie]s",
    "xray": r"x[ -]?rays?|radiographs?|cxrs?|axr|kub film",
    "ct": r"ct|cts|cta|ctpa|hrct|cect|ncct|cat[ -]scans?|computed tomograph(?:y|ies)",
    "mri": r"mri|mris|mra|mrcp|fmri|mr image|magnetic resonance(?: imag(?:e|es|ing))?",
    "ultrasound": r"ultrasounds?|sonogra(?:m|ms|phy)|echocardiogra(?:m|ms|phy)|usg",
    "fundus": r"fundus|fundoscop(?:y|ic)|ophthalmoscop(?:y|ic)|retinal photo(?:graph)?s?",
    "oct": r"oct|octs|optical coherence tomograph(?:y|ies)",
    "dermoscopy": r"dermoscop(?:y|ic)|dermatoscop(?:y|ic)",
    "endoscopy": r"endoscop(?:y|ic)|colonoscop(?:y|ic)|gastroscop(?:y|ic)|bronchoscop(?:y|ic)|laparoscop(?:y|ic)",
    "histopathology": r"histopatholog(?:y|ical|ic)|histolog(?:y|ical|ic)|h&e|biopsy slides?|whole[ -]slide",
}
_PLACE = (
    "chest|brain|head|neck|spine|spinal|lumbar|cervical|thoracic|abdominal|abdomen|pelvic|pelvis|knee|hip|shoulder|hand|"
    "wrist|foot|ankle|elbow|leg|arm|skull|dental|panoramic|cardiac|heart|liver|renal|kidney|breast|lung|prostate|fetal|"
    "obstetric|thyroid|pancreas|sinus|orbital|eye|retinal|macular|skin|colon|gastric|bone|whole|body|soft|tissue"
)
_KIND = (
    "axial|coronal|sagittal|transverse|frontal|lateral|oblique|portable|ap|pa|contrast|enhanced|contrast-enhanced|plain|"
    "non-contrast|noncontrast|unenhanced|t1|t2|flair|dwi|weighted|t1-weighted|t2-weighted|low-dose|high-resolution|left|"
    "right|bilateral|single|colour|color|doppler|digital|new|recent|follow-up|post-operative|normal|abnormal"
)
_POINTS = (
    r"(?:this|these|attached|enclosed|uploaded|accompanying"
    r"|the (?:following|above|below|attached|enclosed|uploaded|given|provided)"
    r"|here(?:'s| is| are)(?: an?| the| my)?)"
)
_AWAY = (
    r"(?![\s-]*(?:reports?|findings? note|protocols?|requests?|orders?|scanners?|machines?|dose|guided|findings? from))"
)
_ANY = re.compile("|".join(rf"(?P<{kind}>\b(?:{names})\b)" for kind, names in _NAMES.items()))
_STATED = re.compile(rf"\b{_POINTS}\s+(?:(?:{_PLACE}|{_KIND})[\s,]+){{0,4}}(?:{'|'.join(_NAMES.values())})\b{_AWAY}")
_MOST = 4_000  # characters of a turn that are read: the statement of a report pasted in is not the user's


def stated(texts: Iterable[str]) -> Modality | None:
    """Give the modality that the texts of one turn state, None where they state none or name several."""
    text = "\n".join(texts)[:_MOST].lower().replace("’", "'").replace("‑", "-")
    named = {match.lastgroup for match in _ANY.finditer(text)}
    if len(named) != 1 or _STATED.search(text) is None:
        return None
    (only,) = named
    return next(kind for kind in _NAMES if kind == only)
