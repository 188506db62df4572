"""Two line charts as SVG, by hand: no library, no script. Why so: docs/decisions/0040-plots.md.

Colours come from classes that the page styles for light and dark; a line is told by its dashes and marks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from msgspec import Struct

SERIES = 6  # colours in the page's style
DASHES = ("", "7 4", "2 3", "10 3 2 3")
_LEFT, _TOP, _SIDE = 46, 14, 300  # the plot's square in user units
WIDTH, HEIGHT = _LEFT + _SIDE + 14, _TOP + _SIDE + 46


class Line(Struct, frozen=True, kw_only=True):
    """A named line through points in the unit square. `marks` draws a dot at each point."""

    name: str
    points: tuple[tuple[float, float], ...]
    marks: bool = False


def _x(value: float) -> str:
    return f"{_LEFT + _SIDE * value:.1f}"


def _y(value: float) -> str:
    return f"{_TOP + _SIDE * (1 - value):.1f}"


def style(number: int) -> str:
    """Give the class and dashes of line `number`."""
    dash = DASHES[(number // SERIES + number) % len(DASHES)]
    return f'class="series s{number % SERIES}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def swatch(number: int) -> str:
    """Draw a short piece of line `number`, for a legend."""
    return f'<svg class="swatch" viewBox="0 0 36 8" aria-hidden="true"><path {style(number)} d="M1 4H35"/></svg>'


def chart(
    lines: Sequence[Line],
    *,
    id: str,  # noqa: A002 - HTML's word
    title: str,
    about: str,
    across: str,
    up: str,
    guides: Sequence[float] = (),
) -> str:
    """Draw `lines` over the unit square with percentages along both axes and the diagonal.

    `title` and `about` are read out in place of the picture. `guides` are two values: an upright line at the first, a
    level one at the second.
    """
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-t {id}-d">',
        f'<title id="{id}-t">{escape(title)}</title><desc id="{id}-d">{escape(about)}</desc>',
    ]
    for step in range(6):
        at = step / 5
        parts.append(f'<path class="grid" d="M{_x(at)} {_y(0)}V{_y(1)}M{_x(0)} {_y(at)}H{_x(1)}"/>')
        parts.append(f'<text class="tick" x="{_x(at)}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{step * 20}</text>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{float(_y(at)) + 4:.1f}" text-anchor="end">{step * 20}</text>'
        )
    parts.append(f'<path class="diagonal" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    if guides:
        parts.append(f'<path class="guide" d="M{_x(guides[0])} {_y(0)}V{_y(1)}M{_x(0)} {_y(guides[1])}H{_x(1)}"/>')
    middle = _LEFT + _SIDE / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text class="axis" transform="translate(13 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    for number, line in enumerate(lines):
        way = "L".join(f"{_x(x)} {_y(y)}" for x, y in line.points)
        parts.append(f'<path {style(number)} d="M{way}"><title>{escape(line.name)}</title></path>')
        if line.marks:
            dots = (f'<circle class="dot s{number % SERIES}" cx="{_x(x)}" cy="{_y(y)}" r="3"/>' for x, y in line.points)
            parts.extend(dots)
    parts.append("</svg>")
    return "".join(parts)
