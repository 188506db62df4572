"""What is asked about a picture and answered, in training; and how a modality is read out of an answer."""

from __future__ import annotations

import re
from types import MappingProxyType

import numpy as np

KINDS = MappingProxyType(
    {
        "xray": "an X-ray",
        "ct": "a CT scan",
        "mri": "an MRI scan",
        "ultrasound": "an ultrasound image",
        "fundus": "a fundus photograph",
        "oct": "an OCT scan",
        "dermoscopy": "a dermoscopy image",
        "endoscopy": "an endoscopy image",
        "histopathology": "a histopathology slide",
        "mammography": "a mammogram",
        "none": "not a medical image",
    }
)
"""How each modality is named in an answer; ``none`` is what is no medical image."""

CAPTIONS = MappingProxyType(
    {
        "xray": " X-ray film",
        "ct": " computed tomography CT scan",
        "mri": " magnetic resonance MRI scan",
        "ultrasound": " ultrasound sonography image",
        "fundus": " fundus photograph retina",
        "oct": " OCT scan retina",
        "dermoscopy": " dermoscopy skin image",
        "endoscopy": " endoscopy image",
        "histopathology": " histopathology slide",
        "mammography": " mammogram breast",
        "none": " ordinary picture",
    }
)
"""The words whose embeddings the projector first learns to give."""

ASKED = "What is the imaging modality of this image?"
"""The question by which a model is measured. It is not among those of the training."""

_KIND = (
    "What imaging modality is this?",
    "Which modality was used to take this image?",
    "What kind of image is this?",
    "What type of scan is shown here?",
    "How was this picture made?",
    "Name the modality of the picture.",
    "Is this an X-ray, CT, MRI or ultrasound image, or something else?",
)
_REGION = (
    "Which part of the body is shown?",
    "What body part does this image show?",
    "What organ or region is in the picture?",
)
_WHOLE = ("Describe this image.", "What does the image show?", "What is in this picture?")

_NAMED = {
    "xray": r"x[- ]?rays?|radiograph\w*",
    "ct": r"ct|computed tomography|cat scan",
    "mri": r"mri?|magnetic resonance\w*",
    "ultrasound": r"ultraso\w+|sonogra\w+",
    "fundus": r"fundus\w*|retinal photograph\w*",
    "oct": r"oct|optical coherence \w+",
    "dermoscopy": r"dermo?scop\w+|dermatoscop\w+",
    "endoscopy": r"endoscop\w+|colonoscop\w+",
    "histopathology": r"histo\w+|microscop\w+",
    "mammography": r"mammogra\w+",
    "none": r"not a medical image",
}


def named(answer: str) -> str | None:
    """Give the modality that `answer` names, None where it names none or several."""
    found = [kind for kind, words in _NAMED.items() if re.search(rf"\b(?:{words})\b", answer.lower())]
    return found[0] if len(found) == 1 else None


def dialogue(kind: str, region: str | None, rng: np.random.Generator) -> tuple[str, str]:
    """Draw a question and its answer. `region` is what is shown, with its article, None where it is not known."""
    what = KINDS[kind]
    drawn = rng.random()
    if drawn < 0.2:
        other = str(rng.choice([name for name in KINDS if name not in (kind, "none")]))
        asked = kind if kind != "none" and rng.random() < 0.5 else other
        return f"Is this {KINDS[asked]}?", f"{'Yes' if asked == kind else 'No'}, this is {what}."
    if drawn < 0.4 and region is not None:
        return str(rng.choice(_REGION)), f"This is {region}."
    if drawn < 0.6:
        tail = "" if region is None else f" of {region}"
        return str(rng.choice(_WHOLE)), f"This is {what}{tail}."
    return str(rng.choice(_KIND)), f"This is {what}."
