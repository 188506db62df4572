"""Putting recognised lines in reading order: lines to blocks, blocks to a page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway_image_text.engine import Floats

_ALIKE = 1.6  # ratio of two heights up to which lines may belong together
_STACKED = 0.7  # length per letter, in widths, from which on a tall line is letters one below the other


class Line(NamedTuple):
    """One recognised line: corners clockwise from the top left in pixels, and how it was turned to be read.

    `tall` says that it was turned a quarter counter-clockwise, `turned` that it was then turned by a half.
    """

    box: Floats
    text: str
    score: float
    turned: bool
    tall: bool

    @property
    def sides(self) -> tuple[float, float]:
        """Give length and height of the line in pixels."""
        wide, high = (float(np.linalg.norm(self.box[0] - self.box[n])) for n in (1, 3))
        return (high, wide) if self.tall else (wide, high)

    @property
    def stacked(self) -> bool:
        """Say whether upright letters stand one below the other."""
        length, across = self.sides
        return self.tall and length > _STACKED * across * max(2, len(self.text.replace(" ", "")))


def blocks(lines: list[Line]) -> list[list[str]]:
    """Give the lines' texts in reading order, those that stand close together as one block.

    Text on the same level and close by is one line. What counts as right and down is the direction most letters have.
    """
    if not lines:
        return []
    along, down = _axes(lines)
    corners = np.stack([line.box for line in lines])
    ends = np.stack([corners @ along, corners @ down])  # axis, line, corner
    low, high = ends.min(axis=2), ends.max(axis=2)
    middle = ends.mean(axis=2)
    thick = np.array([line.sides[1] for line in lines])
    close = _close(low, high, middle[1], thick)
    found = []
    for members in _groups(close):
        rows = _rows(members, middle, thick)
        lead = rows[0][0]
        found.append((lead, [" ".join(lines[n].text for n in row) for row in rows]))
    at = dict(found)
    return [at[lead] for row in _rows(list(at), middle, thick) for lead in row]


def _axes(lines: list[Line]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the directions in which most letters follow each other, and lines do."""
    votes: dict[tuple[bool, bool], float] = {}
    sums: dict[tuple[bool, bool], NDArray[np.float64]] = {}
    upright = 0
    for line in lines:
        way = (line.box[3] - line.box[0]) if line.tall else (line.box[1] - line.box[0])
        way = way.astype(np.float64) / max(1e-6, float(np.linalg.norm(way))) * (-1 if line.turned else 1)
        kind = (line.tall, line.turned)
        votes[kind] = votes.get(kind, 0) + len(line.text)
        sums[kind] = sums.get(kind, np.zeros(2)) + way * len(line.text)
        upright += len(line.text) * (1 if line.stacked else -1 if line.tall else 0)
    kind = max(votes, key=votes.__getitem__)
    along = sums[kind] / max(1e-6, float(np.linalg.norm(sums[kind])))
    down = np.array([-along[1], along[0]])
    if kind[0] and upright > 0:
        down = -down  # stacked letters: their columns follow each other from left to right
    return along, down


def _close(
    low: NDArray[np.float64], high: NDArray[np.float64], level: NDArray[np.float64], thick: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Say of each two lines whether they belong together."""
    small, large = np.minimum.outer(thick, thick), np.maximum.outer(thick, thick)
    gap = np.maximum(low[:, :, None] - high[:, None, :], low[:, None, :] - high[:, :, None])
    below = (gap[0] < 0) & (gap[1] < 0.7 * small)
    beside = (np.abs(level[:, None] - level[None, :]) < 0.5 * small) & (gap[0] < 1.5 * small)
    together: NDArray[np.bool_] = (below | beside) & (large < _ALIKE * small)
    return together


def _groups(close: NDArray[np.bool_]) -> list[list[int]]:
    left = set(range(len(close)))
    groups = []
    while left:
        todo, group = [left.pop()], []
        while todo:
            one = todo.pop()
            group.append(one)
            new = left.intersection(map(int, np.flatnonzero(close[one])))
            left -= new
            todo += new
        groups.append(sorted(group))
    return groups


def _rows(members: list[int], middle: NDArray[np.float64], thick: NDArray[np.float64]) -> list[list[int]]:
    """Sort lines into rows, top to bottom, each from left to right."""
    rows: list[list[int]] = []
    for one in sorted(members, key=lambda n: float(middle[1][n])):
        if rows and middle[1][one] - middle[1][rows[-1][0]] < 0.5 * thick[rows[-1][0]]:
            rows[-1].append(one)
        else:
            rows.append([one])
    return [sorted(row, key=lambda n: float(middle[0][n])) for row in rows]
