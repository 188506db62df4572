"""The words by which codes are told to people."""

from __future__ import annotations

_SHORT = 16  # characters of a digest that people compare

_CAUSES = {
    "deadline": "it did not answer within its deadline",
    "nothing": "it gave nothing where a word was owed",
    "exited": "it tried to end the process",
    "cancelled": "it was cancelled",
    "caller-gone": "it was stopped, because the caller had gone",
    "context": "the model's context holds not one demonstration beside the question",
}

_MODALITIES = {
    "xray": "X-ray",
    "ct": "CT",
    "mri": "MRI",
    "fundus": "fundus photograph",
    "oct": "OCT",
    "dermoscopy": "dermoscopy",
    "ultrasound": "ultrasound",
    "endoscopy": "endoscopy",
    "histopathology": "histopathology",
    "mammography": "mammography",
}


def plain(code: str) -> str:
    """Turn a code into words: ``insurance-fraud`` reads *insurance fraud*."""
    return code.replace("-", " ").replace("_", " ")


def cause(code: str | None) -> str:
    """Tell why a stage gave no usable word."""
    if code is None:
        return "no cause is recorded"
    if code.startswith("raised:"):
        return f"it broke with an error of the type {code.removeprefix('raised:')}"
    if code.startswith("nonsense:"):
        return f"what it gave could not be used (its {plain(code.removeprefix('nonsense:'))} was wrong)"
    return _CAUSES.get(code, f"the cause is recorded as `{code}`")


def modality(code: str | None) -> str:
    """Name an imaging modality."""
    return "image" if code is None else f"{_MODALITIES.get(code, code)} image"


def view(code: str | None) -> str:
    """Tell by which reading of a text something was seen."""
    if code is None or code == "raw":
        return ""
    if code in ("normalised", "normalized", "folded"):
        return " once look-alike and invisible characters were folded"
    return f" once it was read as {plain(code)}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Say a number of things."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(items: tuple[str, ...]) -> str:
    """Join items as a sentence does."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def share(value: float) -> str:
    """Write a number in 0..1: three digits, and never 0 or 1 unless it is exactly that."""
    text = f"{value:.3f}"
    if text == "1.000" and value < 1.0:
        return "above 0.999"
    return "below 0.001" if text == "0.000" and value > 0.0 else text.rstrip("0").rstrip(".") or "0"


def level(risk: float) -> str:
    """Say how high a risk is, in a word; the policy's tiers decide, not this word."""
    for below, word in ((0.05, "very low"), (0.2, "low"), (0.5, "moderate"), (0.8, "high")):
        if risk < below:
            return word
    return "very high"


def short(digest: str) -> str:
    """Write the beginning of a digest or pseudonym."""
    return digest if len(digest) <= _SHORT else f"{digest[:_SHORT]}…"


def ms(value: float) -> str:
    """Write a time in milliseconds."""
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
