"""Line charts and a plane of points as SVG, by hand: no library, no script. Why so: docs/decisions/0040-plots.md.

Colours come from classes that the page styles for light and dark; a line is told by its dashes and marks too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from msgspec import Struct

SERIES = 6  # colours in the page's style
DASHES = ("", "7 4", "2 3", "10 3 2 3")
_LEFT, _TOP, _SIDE = 46, 14, 300  # the plot's square in user units
WIDTH, HEIGHT = _LEFT + _SIDE + 14, _TOP + _SIDE + 46
_PERCENT = tuple((step / 5, f"{step * 20}") for step in range(6))


class Line(Struct, frozen=True, kw_only=True):
    """A named line through points in the unit square. `marks` draws a dot at each point.

    `whiskers` are upright intervals: where across, from where up to where.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    marks: bool = False
    whiskers: tuple[tuple[float, float, float], ...] = ()


class Spot(Struct, frozen=True, kw_only=True):
    """A named point in the unit square, in the colour of line `series`.

    `label` stands beside it. `best` draws a ring around it, `apart` a diamond in place of the dot.
    """

    name: str
    at: tuple[float, float]
    series: int
    label: str = ""
    best: bool = False
    apart: bool = False


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
    id: str,
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
    parts = [f'<path class="diagonal" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>']
    if guides:
        parts.append(f'<path class="guide" d="M{_x(guides[0])} {_y(0)}V{_y(1)}M{_x(0)} {_y(guides[1])}H{_x(1)}"/>')
    parts += (_drawn(line, number) for number, line in enumerate(lines))
    return _framed(parts, id=id, title=title, about=about, across=across, up=up, ticks=_PERCENT)


def curves(
    lines: Sequence[Line],
    *,
    id: str,
    title: str,
    about: str,
    across: str,
    up: str,
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Draw `lines` with percentages upward and the words of `ticks` (where, what) across."""
    parts = [_drawn(line, number) for number, line in enumerate(lines)]
    return _framed(parts, id=id, title=title, about=about, across=across, up=up, ticks=ticks)


def plane(
    spots: Sequence[Spot],
    front: Sequence[tuple[float, float]],
    *,
    id: str,
    title: str,
    about: str,
    across: str,
    up: str,
) -> str:
    """Draw points in the unit square with percentages along both axes, and the stairs of `front`, sorted by x."""
    parts: list[str] = []
    if front:
        steps = [f"{_x(front[0][0])} {_y(1)}", f"{_x(front[0][0])} {_y(front[0][1])}"]
        for (_, before), (x, y) in pairwise(front):
            steps += [f"{_x(x)} {_y(before)}", f"{_x(x)} {_y(y)}"]
        steps.append(f"{_x(1)} {_y(front[-1][1])}")
        parts.append(f'<path class="guide" fill="none" d="M{"L".join(steps)}"/>')
    parts += map(_spot, spots)
    words: dict[tuple[float, float], list[str]] = {}
    for spot in spots:  # what lies in one place is told in one word
        words.setdefault((round(spot.at[0], 2), round(spot.at[1], 2)), []).append(spot.label)
    parts += (_word(at, ", ".join(dict.fromkeys(filter(None, told)))) for at, told in words.items() if any(told))
    return _framed(parts, id=id, title=title, about=about, across=across, up=up, ticks=_PERCENT)


def _drawn(line: Line, number: int) -> str:
    series = number % SERIES
    way = "L".join(f"{_x(x)} {_y(y)}" for x, y in line.points)
    parts = [f'<path {style(number)} d="M{way}"><title>{escape(line.name)}</title></path>'] if way else []
    parts += (f'<path class="whisker s{series}" d="M{_x(x)} {_y(low)}V{_y(high)}"/>' for x, low, high in line.whiskers)
    if line.marks:
        parts += (f'<circle class="dot s{series}" cx="{_x(x)}" cy="{_y(y)}" r="3"/>' for x, y in line.points)
    return "".join(parts)


def _spot(spot: Spot) -> str:
    x, y = map(float, (_x(spot.at[0]), _y(spot.at[1])))
    name = f"<title>{escape(spot.name)}</title>"
    color = f"dot s{spot.series % SERIES}"
    if spot.apart:
        shape = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
        drawn = f'<path class="diamond {color}" d="{shape}">{name}</path>'
    else:
        drawn = f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="4">{name}</circle>'
    return drawn + (f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="8"/>' if spot.best else "")


def _word(at: tuple[float, float], word: str) -> str:
    """Write a word beside a point, on its left near the right edge."""
    left = at[0] > 0.9
    x, y = float(_x(at[0])) + (-9 if left else 9), float(_y(at[1])) - 6
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{"end" if left else "start"}">{escape(word)}</text>'


def _framed(
    parts: Iterable[str],
    *,
    id: str,
    title: str,
    about: str,
    across: str,
    up: str,
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Put axes, a grid, names and the words that are read out around what is drawn."""
    made = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{id}-t {id}-d">',
        f'<title id="{id}-t">{escape(title)}</title><desc id="{id}-d">{escape(about)}</desc>',
    ]
    for at, word in ticks:
        made.append(f'<path class="grid" d="M{_x(at)} {_y(0)}V{_y(1)}"/>')
        made.append(
            f'<text class="tick" x="{_x(at)}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{escape(word)}</text>'
        )
    for at, word in _PERCENT:
        made.append(f'<path class="grid" d="M{_x(0)} {_y(at)}H{_x(1)}"/>')
        made.append(f'<text class="tick" x="{_LEFT - 7}" y="{float(_y(at)) + 4:.1f}" text-anchor="end">{word}</text>')
    middle = _LEFT + _SIDE / 2
    made.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    made.append(
        f'<text class="axis" transform="translate(13 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    return "".join((*made, *parts, "</svg>"))
