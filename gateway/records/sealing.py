"""What of a request is sealed, and how: the words, images and answers of one decision, encrypted with a key of its own.

Pure: no database, no key that outlives a call. The sealed bytes are a version byte, a nonce of 96 random bits, and the
AES-256-GCM encryption of the content as MessagePack (NIST SP 800-38D). The decision's id is authenticated with them, so
the bytes of one decision open under no other's name. A key seals once, so its nonce can not come twice.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.policy.evidence import Screened
from gateway.records.outcome import Completed, Injected, Outcome
from gateway.records.shapes import Kept
from gateway.values import Completion

KEY_BYTES = 32
"""Bytes of every key here: AES-256."""

_NONCE_BYTES = 12
_VERSION = b"\x01"
_CONTENT = b"gateway vault content v1\x00"
_WRAPPED = b"gateway vault key v1\x00"


class SealedTextV1(Kept, frozen=True, kw_only=True):
    """A text and its place. `role` is who spoke, None where no turn holds it."""

    part: str
    text: str
    role: str | None = None


class SealedImageV1(Kept, frozen=True, kw_only=True):
    """An image as the model was given it: re-encoded, without the metadata of its file. Sizes are in pixels."""

    part: str
    media_type: str
    width: int
    height: int
    data: bytes


class SealedAttemptV1(Kept, frozen=True, kw_only=True):
    """One asking of the model: the ids of the demonstrations, and the answer before redaction, None where none came."""

    demonstrations: tuple[str, ...]
    answer: tuple[SealedTextV1, ...] | None


class ContentV1(Kept, frozen=True, kw_only=True):
    """The content of one decision. `found` is text that was found in images, `answer` what left, after redaction."""

    id: str
    texts: tuple[SealedTextV1, ...]
    found: tuple[SealedTextV1, ...]
    images: tuple[SealedImageV1, ...]
    stop: tuple[str, ...]
    attempts: tuple[SealedAttemptV1, ...]
    answer: tuple[SealedTextV1, ...] | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ContentV1, strict=True)


def _answer(completion: Completion | None) -> tuple[SealedTextV1, ...] | None:
    if completion is None:
        return None
    return tuple(SealedTextV1(part=t.id, text=t.text) for choice in completion.choices for t in choice.texts())


def content_of(outcome: Outcome) -> ContentV1:
    """Gather what is sealed of `outcome`: all that its record does not hold, but the synthetic demonstrations."""
    request = outcome.request
    roles = {part.id: turn.role for turn in request.turns for part in turn.all_parts()}
    words = [word.screening for word in outcome.screening if isinstance(word, Screened)]
    return ContentV1(
        id=request.id,
        texts=tuple(SealedTextV1(part=t.id, text=t.text, role=roles.get(t.id)) for t in request.texts()),
        found=tuple(SealedTextV1(part=t.id, text=t.text) for word in words for t in word.found),
        images=tuple(
            SealedImageV1(part=i.id, media_type=i.media_type, width=i.width, height=i.height, data=i.data)
            for i in request.images()
        ),
        stop=request.sampling.stop,
        attempts=tuple(
            SealedAttemptV1(
                demonstrations=tuple(demo.id for demo in attempt.injected.demonstrations)
                if isinstance(attempt.injected, Injected)
                else (),
                answer=_answer(attempt.completed.completion) if isinstance(attempt.completed, Completed) else None,
            )
            for attempt in outcome.attempts
        ),
        answer=_answer(outcome.answer),
    )


def weight_of(outcome: Outcome) -> int:
    """Estimate the bytes of an outcome's content, cheaply."""
    return sum(len(image.data) for image in outcome.request.images()) + sum(
        len(text.text) for text in outcome.request.texts()
    )


def seal(content: ContentV1) -> tuple[bytes, bytes]:
    """Encrypt `content` with a fresh key; give the key and the sealed bytes."""
    key, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    plain = _encoder.encode(content)
    return key, _VERSION + nonce + AESGCM(key).encrypt(nonce, plain, _CONTENT + content.id.encode())


def unseal(sealed: bytes, key: bytes, id: str) -> ContentV1:
    """Decrypt the content of the decision `id`.

    Raises ValueError, which quotes nothing, where key, bytes and id do not belong together or a bit was changed.
    """
    plain = _open(sealed, key, _CONTENT + id.encode())
    try:
        content = _decoder.decode(plain)
    except msgspec.DecodeError:
        raise ValueError("the sealed content has a form that this version does not know") from None
    if content.id != id:
        raise ValueError("the sealed content is of another decision")
    return content


def wrap(key: bytes, kek: bytes, kek_id: str, id: str) -> bytes:
    """Encrypt the key of the decision `id` with the key-encryption key `kek`; both ids are authenticated with it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(kek).encrypt(nonce, key, _about(kek_id, id))


def unwrap(wrapped: bytes, kek: bytes, kek_id: str, id: str) -> bytes:
    """Decrypt the key of the decision `id`. Raises ValueError where it was wrapped by another, or changed."""
    key = _open(wrapped, kek, _about(kek_id, id))
    if len(key) != KEY_BYTES:
        raise ValueError("the key that was wrapped has the wrong length")
    return key


def kek_id_of(kek: bytes) -> str:
    """Name a key-encryption key: 16 hex characters of a digest, which tell nothing of a random key."""
    return "kek-" + hashlib.sha256(b"gateway vault kek id v1\x00" + kek).hexdigest()[:16]


def _about(kek_id: str, decision: str) -> bytes:
    return _WRAPPED + kek_id.encode() + b"\x00" + decision.encode()


def _open(data: bytes, key: bytes, about: bytes) -> bytes:
    if data[:1] != _VERSION or len(data) < 1 + _NONCE_BYTES + 16:
        raise ValueError("the encrypted bytes have a form that this version does not know")
    try:
        return AESGCM(key).decrypt(data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :], about)
    except InvalidTag:
        raise ValueError("the encrypted bytes were changed, or belong to another key or decision") from None


def plainly(content: ContentV1) -> dict[str, Any]:
    """Give the content as plain data for JSON: texts by part, images as data URLs, answers."""

    def texts(many: tuple[SealedTextV1, ...] | None) -> list[dict[str, str]] | None:
        if many is None:
            return None
        return [{"part": t.part, "text": t.text} | ({"role": t.role} if t.role else {}) for t in many]

    return {
        "id": content.id,
        "texts": texts(content.texts),
        "found": texts(content.found),
        "images": [
            {
                "part": image.part,
                "media_type": image.media_type,
                "width": image.width,
                "height": image.height,
                "url": f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}",
            }
            for image in content.images
        ],
        "stop": list(content.stop),
        "attempts": [
            {"demonstrations": list(attempt.demonstrations), "answer": texts(attempt.answer)}
            for attempt in content.attempts
        ],
        "answer": texts(content.answer),
    }
