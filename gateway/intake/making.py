"""Make one line of a batch, as the gateway will read it: checked by the same readers, before it is written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from gateway.errors import RequestError
from gateway.images import decode_bytes
from gateway.intake.line import Line, Options, Shown, Unfit, shown_name
from gateway.records import NOTHING_SAID
from gateway.values import Image
from gateway.wire.chat import PATH, read_chat
from gateway.wire.messages import MAX_IMAGES
from gateway.wire.said import said_of_line

METADATA_LONGEST = 512
"""Characters of a value in a request's `metadata`, as OpenAI bounds it."""

_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "dicom": "application/dicom"}


class Picture(Struct, frozen=True, kw_only=True):
    """An image that was read and found to be decodable: its file as it is sent, and what can be told of it."""

    raw: bytes
    media_type: str
    shown: Shown


def picture(raw: bytes, name: str, options: Options) -> Picture:
    """Check an image as the gateway will, and give what is sent of it; `name` is how messages call it.

    A DICOM file is sent without its patient and people (`without_people`), or as the pixels alone where `options` say
    so, or where it can not be written anew.

    Raises:
        Unfit: the gateway would refuse it.
    """
    try:
        image = decode_bytes(raw, id="image", limits=options.limits)
    except RequestError as exc:
        raise Unfit(f"{shown_name(name)}: {exc.message}") from None
    if image.source != "dicom":
        return _as(raw, _MEDIA[image.source], image)
    kept = None if options.pixels_only else _kept(raw, image, options)
    return _as(image.data, image.media_type, image) if kept is None else _as(kept, _MEDIA["dicom"], image)


def _as(raw: bytes, media_type: str, image: Image) -> Picture:
    shown = Shown(width=image.width, height=image.height, size=len(raw), modality=image.modality)
    return Picture(raw=raw, media_type=media_type, shown=shown)


def _kept(raw: bytes, image: Image, options: Options) -> bytes | None:
    """Give the DICOM file without people; None where what is left does not show the same pixels."""
    from gateway.intake.people import without_people

    kept = without_people(raw)
    if kept is None:
        return None
    try:
        again = decode_bytes(kept, id="image", limits=options.limits)
    except RequestError:
        return None
    return kept if again.digest == image.digest else None


def _url(one: Picture) -> str:
    return f"data:{one.media_type};base64,{base64.b64encode(one.raw).decode()}"


def gathered(pictures: Iterable[Picture], options: Options) -> tuple[Picture, ...]:
    """Read the images of a line, no further than it has room for them.

    Raises:
        Unfit: they are too many or too large.
    """
    found: list[Picture] = []
    size = 0
    for one in pictures:
        if len(found) == MAX_IMAGES:
            raise Unfit(f"there are more than {MAX_IMAGES} images; ask about fewer")
        size += (len(one.raw) + 2) // 3 * 4
        _check_size(size, options)
        found.append(one)
    return tuple(found)


def line(
    custom_id: str,
    question: str,
    pictures: tuple[Picture, ...],
    options: Options,
    *,
    said: Mapping[str, str | None],
    told: Mapping[str, str | None] | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    notes: tuple[str, ...] = (),
) -> Line:
    """Make the line. `said` are members of its `context`, which count before those of `options`.

    `told` goes into the body's `metadata`, which no model reads: what a report needs later. None is left out.

    Raises:
        Unfit: the gateway would refuse the line: it is too large, nothing is asked, or a value is not taken.
    """
    given = {"task": options.task, "purpose": options.purpose, "on_behalf_of": options.on_behalf_of}
    given |= {name: value for name, value in said.items() if value}
    context = {name: value for name, value in given.items() if value}
    question = question.strip()
    if not question:
        raise Unfit("nothing is asked; give a question")
    content: list[object] = [{"type": "text", "text": question}]
    content += [{"type": "image_url", "image_url": {"url": _url(one)}} for one in pictures]
    body: dict[str, object] = {
        "model": model or options.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens or options.max_tokens,
        "metadata": {name: value[:METADATA_LONGEST] for name, value in (told or {}).items() if value},
    }
    body = {name: value for name, value in body.items() if value}
    try:
        said_of_line(NOTHING_SAID, context)
        read_chat(body, id="intake", department="intake", models=(str(body["model"]),))
        data = msgspec.json.encode(
            {"custom_id": custom_id, "method": "POST", "url": PATH, "body": body}
            | ({"context": context} if context else {})
        )
    except RequestError as exc:
        raise Unfit(exc.message) from None
    except UnicodeEncodeError:
        raise Unfit("the text is not UTF-8; save the input as UTF-8") from None
    _check_size(len(data), options)
    return Line(
        custom_id=custom_id,
        question=question,
        images=tuple(one.shown for one in pictures),
        context=context,
        data=data,
        notes=notes,
    )


def _check_size(size: int, options: Options) -> None:
    if size > options.most:
        raise Unfit(
            f"the line would take {size:,} bytes, over {options.most:,}; send fewer or smaller images, or only the "
            "pixels of DICOM files (--pixels-only), or raise GATEWAY_MAX_BODY_BYTES here and at the gateway"
        )
