"""What the user asked, as an auditor needs it, and where long work is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gateway.plugin import Prompt, Text, in_thread

_T = TypeVar("_T")

SHORT = 20_000
"""Characters up to which an auditor works on the event loop: well under ten milliseconds."""

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


async def off_loop(size: int, work: Callable[[], _T]) -> _T:
    """Run `work` here where `size` (characters) is small, else in the stages' thread pool."""
    return work() if size <= SHORT else await in_thread(work)
