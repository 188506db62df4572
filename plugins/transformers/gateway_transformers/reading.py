"""From a prompt to tokens and pixels, cut where the part ends that comes again in other requests."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gateway.plugin import Image, Prompt
from gateway_transformers.prompts import Read, Segment
from gateway_transformers.render import Message, Renderer, leading, pixels

AROUND = 32
"""More tokens than a template and a processor write around an image."""

PREFIXES = 16
"""How many prefixes with images have their tokens remembered: their pixels are made only where they are read."""


class _Part(Struct, frozen=True, kw_only=True):
    """A stretch of a chat: its text, its messages' images, and its tokens."""

    ids: array[int]
    inputs: Callable[[], dict[str, Any]] | None


class Reader:
    """Reads prompts for one model.

    The leading turns and the rest are read apart where that spells the same, so that the images of demonstrations are
    made into pixels, and seen, once. `split` is False for a model that reads each prompt whole.
    """

    def __init__(self, tokenizer: Any, processor: Any | None) -> None:
        self.sees = processor is not None
        self.split = True
        self.renderer = Renderer(processor or tokenizer, tokenizer, images=self.sees)
        self._tokenizer = tokenizer
        self._processor = processor
        self._lock = threading.Lock()  # tokenizers change their own state while they read
        self._known: OrderedDict[bytes, array[int]] = OrderedDict()

    def read(self, prompt: Prompt) -> Read:
        """Read `prompt` up to the opening of the answer."""
        turns = prompt.chat()
        with self._lock:
            messages = self.renderer.messages(turns, prompt.found)
            text = self.renderer.text(messages)
            lead = self.renderer.messages(leading(prompt))
            stable = self.renderer.text(lead, ask=False) if lead else ""
        if self.sees and any(isinstance(part, Image) for message in messages for part in message.parts):
            return self._seen(text, messages, self._common(text, stable), lead)
        ids, before = self.tokens(text), self.tokens(stable) if stable else []
        mark = 0
        while mark < min(len(before), len(ids)) and before[mark] == ids[mark]:
            mark += 1
        return Read(text=text, ids=array("i", ids), mark=mark)

    def answers(self, text: str, answers: tuple[str, ...]) -> tuple[list[int], ...]:
        """Give the tokens of each of `answers` as they stand after `text`."""
        return tuple(self._after(text, self.renderer.safe(answer)) for answer in answers)

    def image_tokens(self) -> frozenset[int]:
        """Give the tokens that stand for images."""
        return frozenset(getattr(self._processor, "image_token_ids", ()))

    def image_sizes(self, images: tuple[Image, ...]) -> int | None:
        """Give as many tokens as `images` take at most, by their sizes; None where the processor can not tell."""
        if not images:
            return 0
        if getattr(getattr(self._processor, "image_processor", None), "do_pan_and_scan", False):
            return None  # which crops count besides
        try:
            # the count that inference servers ask for; it has no public name
            told = self._processor._get_num_multimodal_tokens(  # type: ignore[union-attr]
                image_sizes=[(image.height, image.width) for image in images]
            )
            return sum(map(int, told.num_image_tokens)) + len(images) * AROUND
        except Exception:  # noqa: BLE001  a family that has no such count, or one of another form
            return None

    def tokens(self, text: str) -> list[int]:
        """Give the tokens of `text`."""
        with self._lock:
            ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

    def _after(self, text: str, answer: str) -> list[int]:
        # some tokenizers put a space before a first word, which an answer is not
        before, whole = self.tokens(text), self.tokens(text + answer)
        return whole[len(before) :] if whole[: len(before)] == before else self.tokens(answer)

    def _common(self, text: str, stable: str) -> str:
        """Give how far `text` begins as `stable` does, with all its images; nothing where one is left over."""
        apart = next((n for n, (a, b) in enumerate(zip(text, stable, strict=False)) if a != b), len(stable))
        mark = getattr(self._processor, "image_token", None) or ""
        return "" if mark in stable[apart:] and apart < len(stable) else text[:apart]

    def _seen(self, text: str, messages: tuple[Message, ...], stable: str, lead: tuple[Message, ...]) -> Read:
        rest = text[len(stable) :]
        apart = self.split and stable and rest
        if not (apart and self.tokens(text) == self.tokens(stable) + self.tokens(rest)):
            part = self._part(text, _images(messages))
            whole = Segment(start=0, end=len(part.ids), inputs=part.inputs)
            return Read(text=text, ids=part.ids, segments=(whole,))
        images = _images(messages)
        shown = _images(lead)
        digests = b"".join(bytes.fromhex(image.digest) for image in shown)
        first, last = self._kept(stable, shown, digests), self._part(rest, images[len(shown) :])
        mark, end = len(first.ids), len(first.ids) + len(last.ids)
        return Read(
            text=text,
            ids=first.ids + last.ids,
            mark=mark,
            pictures=digests,
            segments=(
                Segment(start=0, end=mark, inputs=first.inputs),
                Segment(start=mark, end=end, inputs=last.inputs),
            ),
        )

    def _kept(self, text: str, images: tuple[Image, ...], digests: bytes) -> _Part:
        if not images:
            return self._part(text, images)
        name = hashlib.sha256(text.encode("utf-8", "replace") + digests).digest()
        with self._lock:
            ids = self._known.pop(name, None)
        part = self._part(text, images) if ids is None else _Part(ids=ids, inputs=lambda: self._made(text, images))
        with self._lock:
            self._known[name] = part.ids
            while len(self._known) > PREFIXES:
                self._known.popitem(last=False)
        return part

    def _part(self, text: str, images: tuple[Image, ...]) -> _Part:
        if not images:
            return _Part(ids=array("i", self.tokens(text)), inputs=None)
        made = self._made(text, images)
        return _Part(ids=array("i", made["input_ids"][0].tolist()), inputs=lambda: made)

    def _made(self, text: str, images: tuple[Image, ...]) -> dict[str, Any]:
        processor: Any = self._processor
        shown = pixels(images)
        with self._lock:
            return dict(processor(text=[text], images=shown, return_tensors="pt", add_special_tokens=False))


def _images(messages: tuple[Message, ...]) -> tuple[Image, ...]:
    return tuple(part for message in messages for part in message.parts if isinstance(part, Image))
