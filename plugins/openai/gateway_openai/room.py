"""How many tokens a prompt takes, estimated without a server."""

from __future__ import annotations

from gateway.plugin import Image, Prompt

TURN = 8
"""Tokens that the marks of one turn take."""


def tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too high than too low."""
    return -(-len(text) // 3) + len(text.encode("utf-8", "surrogatepass")) - len(text)


def taken(prompt: Prompt, image_tokens: int) -> int:
    """Estimate the tokens of a prompt, an image counted as `image_tokens`."""
    asked = prompt.request
    extra = (text for text in (asked.tools, asked.tool_choice, asked.response_format) if text is not None)
    count = sum(tokens(text.text) for text in extra)
    for turn in prompt.chat():
        count += TURN
        for part in turn.all_parts():
            count += image_tokens if isinstance(part, Image) else tokens(part.text)
    return count
