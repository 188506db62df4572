"""What a model that reads only text is told of an image, and what its answer says of that."""

from __future__ import annotations

from gateway.values import Image, Modality

UNSEEN_NOTE = "Note: this model reads text only and has not seen the image."
"""The last sentence of an answer whose request had an image that the model could not see."""

MAX_FOUND = 600
"""How many characters of the text found in an image are told."""

_KIND = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "dicom": "DICOM"}
_MODALITY: dict[Modality, str] = {
    "xray": "X-ray",
    "ct": "CT",
    "mri": "MRI",
    "ultrasound": "ultrasound",
    "fundus": "fundus photography",
    "oct": "OCT",
    "dermoscopy": "dermoscopy",
    "endoscopy": "endoscopy",
    "histopathology": "histopathology",
    "mammography": "mammography",
}


def image_in_words(image: Image, number: int, text: str = "") -> str:
    """Tell an image to a model that reads only text: number, kind, size in pixels, and what is known of it.

    `text` is what a pre-screener read in the image; at most 600 characters of it are told.
    """
    told = [_KIND[image.source], f"{image.width}×{image.height} pixels"]
    if image.modality is not None:
        told.append(f"modality {_MODALITY[image.modality]}")
    if image.frames > 1:
        told.append(f"frame {image.frame + 1} of {image.frames}")
    read = " ".join(text.split())
    if read:
        told.append(f'text in it: "{read[:MAX_FOUND]}{"…" if len(read) > MAX_FOUND else ""}"')
    return f"[image {number}: {', '.join(told)}]"


def with_unseen_note(text: str) -> str:
    """Give an answer with `UNSEEN_NOTE` at its end."""
    return f"{text.rstrip()}\n\n{UNSEEN_NOTE}".lstrip()


class UnseenNoting:
    """Does to a text that comes in pieces what `with_unseen_note` does to a whole one."""

    def __init__(self) -> None:
        self._begun = False
        self._space = ""

    def add(self, text: str, *, last: bool) -> str:
        """Give what may leave: white space waits for what comes after it, and the `last` piece brings the note."""
        whole = self._space + text if self._begun else text.lstrip()
        said = whole.rstrip()
        self._space = whole[len(said) :]
        self._begun = self._begun or bool(said)
        if not last:
            return said
        return f"{said}\n\n{UNSEEN_NOTE}" if self._begun else UNSEEN_NOTE
