"""The pre-screener `blocklist`: a request that holds one of the department's words, in any reading, is refused."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.plugin import Request, Screening, Stage, hookimpl, views


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`words` are refused wherever they stand, in small or capital letters."""

    words: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]


class Blocklist:
    """Gives risk 1 where a word occurs, and names the part and the reading it occurs in; else 0."""

    def __init__(self, config: Config) -> None:
        self._words = tuple(word.casefold() for word in config.words)

    async def screen(self, request: Request) -> Screening:
        """Look for the words in every text of `request`; images are not inspected."""
        seen: list[str] = []
        for text in request.texts():
            readings = views(text.text)
            if not readings[-1].cut:  # else there was more to decode than was looked at
                seen.append(text.id)
            for view in readings:
                if any(word in view.text.casefold() for word in self._words):
                    return Screening(risk=1.0, inspected=tuple(seen), part=text.id, view=view.name)
        return Screening(risk=0.0, inspected=tuple(seen))


@hookimpl
def gateway_prescreeners() -> list[Stage[Config]]:
    """Offer `blocklist`."""
    return [Stage("blocklist", Config, Blocklist)]
