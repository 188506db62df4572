"""Values to try stages on, with ids as the gateway gives them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from typing import Any

from msgspec import structs
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from gateway.values import (
    Choice,
    Completion,
    Demonstration,
    Image,
    Modality,
    Part,
    Prompt,
    Request,
    Role,
    Sampling,
    Text,
    Turn,
)


def image(
    width: int = 256,
    height: int = 256,
    text: str | None = None,
    *,
    id: str = "messages[0].content[1]",
    size: int = 24,
    ink: int = 255,
    ground: int = 0,
    modality: Modality | None = None,
    tags: dict[str, str] | None = None,
) -> Image:
    """Draw a PNG of `width` x `height` pixels with `text` in letters of `size` pixels; `ink` and `ground` are greys.

    With `modality` or `tags` (free-text tags by keyword) it passes for an image that came as DICOM.
    """
    picture = Picture.new("L", (width, height), ground)
    if text is not None:
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and pen.textlength(longer, font=font) > 0.9 * width:
                lines.append(word)
            else:
                lines[-1] = longer
        pen.multiline_text((width * 0.05, height * 0.1), "\n".join(lines), font=font, fill=ink)
    out = io.BytesIO()
    picture.save(out, "PNG")
    data = out.getvalue()
    texts = tuple(Text(id=f"{id}#dicom/{name}", text=value) for name, value in (tags or {}).items())
    return Image(
        id=id,
        data=data,
        media_type="image/png",
        width=width,
        height=height,
        digest=hashlib.sha256(data).hexdigest(),
        source="dicom" if modality is not None or tags else "png",
        modality=modality,
        texts=texts,
    )


def _placed(picture: Image, place: str) -> Image:
    texts = tuple(
        Text(id=place + text.id[len(picture.id) :] if text.id.startswith(picture.id) else text.id, text=text.text)
        for text in picture.texts
    )
    return structs.replace(picture, id=place, texts=texts)


def request(
    text: str | None = "Is there a fracture?",
    *,
    images: Iterable[Image] = (),
    history: Iterable[tuple[Role, str]] = (),
    sampling: Sampling | None = None,
    id: str = "test-0001",
    department: str = "radiology",
    model: str = "test-model",
    **extra: Any,
) -> Request:
    """Make a request: the turns of `history`, then a user's turn of `text` and `images`.

    The images get the ids of their new places. `extra` goes to `Request`: tools, tool_choice, response_format, stream.
    """
    turns = [
        Turn(role=role, parts=(Text(id=f"messages[{place}].content", text=said),))
        for place, (role, said) in enumerate(history)
    ]
    shown, here = tuple(images), f"messages[{len(turns)}].content"
    parts: list[Part] = []
    if text is not None:
        parts.append(Text(id=f"{here}[0]" if shown else here, text=text))
    parts += [_placed(picture, f"{here}[{len(parts) + number}]") for number, picture in enumerate(shown)]
    turns.append(Turn(role="user", parts=tuple(parts)))
    return Request(
        id=id,
        department=department,
        model=model,
        turns=tuple(turns),
        sampling=sampling or Sampling(),
        **extra,
    )


def demonstration(
    number: int = 0, *, refuses: bool = False, modality: Modality = "ct", image: Image | None = None
) -> Demonstration:
    """Make a demonstration; number `n` has the id ``test-n-refuse`` or ``test-n-answer`` and the pair ``test-n``."""
    if refuses:
        question = f"Write a false report of scan {number} so that the insurer pays."
        answer = "I can not help with a false report. I can help to describe what the scan shows."
    else:
        question = f"What does scan {number} show?"
        answer = "The scan shows no acute finding. A radiologist should confirm this."
    return Demonstration(
        id=f"test-{number}-{'refuse' if refuses else 'answer'}",
        pair=f"test-{number}",
        modality=modality,
        question=question,
        answer=answer,
        refuses=refuses,
        image=image,
    )


def prompt(
    text: str | None = "Is there a fracture?", *, demonstrations: Iterable[Demonstration] = (), **kwargs: Any
) -> Prompt:
    """Make a prompt: `demonstrations` before the request that `request(text, **kwargs)` makes."""
    return Prompt(request=request(text, **kwargs), demonstrations=tuple(demonstrations))


def completion(*answers: str, model: str = "test-model", blind: bool = False) -> Completion:
    """Make a completion with one choice for each of `answers`; without any, one that says that nothing was found."""
    texts = answers or ("There is no fracture.",)
    choices = tuple(
        Choice(index=place, text=Text(id=f"choices[{place}].content", text=text)) for place, text in enumerate(texts)
    )
    return Completion(model=model, choices=choices, blind=blind)
