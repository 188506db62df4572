"""What the user asked and the model wrote, as an auditor needs it, where long work is done, and what of it is kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from gateway.plugin import Choice, Prompt, Text, in_thread

_T = TypeVar("_T")

SHORT = 20_000
"""Characters up to which an auditor works on the event loop: well under ten milliseconds."""

WIDEST = 16_384
"""The most characters of a growing answer that an auditor may be shown again."""

_FEW_WORDS = 6


def question(prompt: Prompt) -> str:
    """Give the text of the user's last turn; where it has few words (`go on`), of the user's turns before it too."""
    asked: list[str] = []
    for turn in reversed(prompt.request.turns):
        if turn.role == "user":
            asked.insert(0, "\n".join(part.text for part in turn.parts if isinstance(part, Text)))
            if sum(len(text.split()) for text in asked) >= _FEW_WORDS:
                break
    return "\n".join(asked)


def written(choice: Choice) -> tuple[Text, ...]:
    """Give the texts that the model wrote: not the tokens that it might have written in place of its own."""
    return (choice.text, *(text for call in choice.tool_calls for text in (call.name, call.arguments)))


async def off_loop(size: int, work: Callable[[], _T]) -> _T:
    """Run `work` here where `size` (characters) is small, else in the stages' thread pool."""
    return work() if size <= SHORT else await in_thread(work)


class Kept(Generic[_T]):
    """What was worked out of a request lately, by a digest of its texts: a growing answer is judged many times.

    It keeps no text itself. It is used on the event loop alone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[bytes, _T] = OrderedDict()

    async def get(self, texts: Iterable[str], work: Callable[[], _T]) -> _T:
        """Give what `work` gives for `texts`, from memory where it is there."""
        digest, size = hashlib.blake2b(digest_size=16), 0
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            size += len(text)
            digest.update(len(data).to_bytes(8, "big") + data)
        key = digest.digest()
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        value = self._items[key] = await off_loop(size, work)
        while len(self._items) > self._most:
            self._items.popitem(last=False)
        return value
