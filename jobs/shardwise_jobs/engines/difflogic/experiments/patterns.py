"""The pictures that cells grow into, as text: rows of letters that a person sees, and what bits they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shardwise.engine.errors import BadConfiguration

LIZARD = (
    "....................",
    "..........##........",
    ".........####.......",
    ".....#...####...#...",
    "....##...####...##..",
    ".....##...##...##...",
    "......##########....",
    "........######......",
    "........#####.......",
    ".......#####........",
    ".......#####........",
    ".......#####........",
    "......########......",
    ".....##.####.##.....",
    "....##...###..##....",
    "...##....###...##...",
    "....#.....##...#....",
    "..........##........",
    "...........##.......",
    "............#####...",
)
"""A lizard seen from above, its tail to the right."""

COLOUR_G = (
    "................",
    ".....MMMMMM.....",
    "...MMMMMMMMMM...",
    "..BMMMM..MMMMM..",
    "..BBM......MM...",
    ".BBB............",
    ".BBB............",
    ".BBB...YYYYYYY..",
    ".BBB...YYYYYYY..",
    ".BBB.......YYY..",
    ".BBB.......YYY..",
    "..BBC.....CYYY..",
    "..BCCCC..CCCCY..",
    "...CCCCCCCCCC...",
    ".....CCCCCC.....",
    "................",
)
"""The letter G, in letters of `COLOURS`."""

COLOURS = {
    ".": (0, 0, 0),
    "R": (1, 0, 0),
    "G": (0, 1, 0),
    "B": (0, 0, 1),
    "C": (0, 1, 1),
    "M": (1, 0, 1),
    "Y": (1, 1, 0),
    "W": (1, 1, 1),
}
"""Bits of red, green, blue."""


def silhouette(rows: Sequence[str]) -> NDArray[np.uint8]:
    """Return rows of '.' and '#' as bits (height, width, 1).

    Raises:
        BadConfiguration: no row, rows that differ in length, or another letter; the message names row and letter.
    """
    return _drawn(rows, {".": (0,), "#": (1,)}, name="pattern")


def coloured(rows: Sequence[str]) -> NDArray[np.uint8]:
    """Return rows of letters as bits (height, width, 3). Raises BadConfiguration as `silhouette`."""
    return _drawn(rows, COLOURS, name="picture")


def _drawn(rows: Sequence[str], letters: Mapping[str, tuple[int, ...]], *, name: str) -> NDArray[np.uint8]:
    if not rows or not rows[0]:
        raise BadConfiguration(f"{name}: empty")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise BadConfiguration(f"{name}: row {number} has {len(row)} letters, the first has {len(rows[0])}")
        for letter in row:
            if letter not in letters:
                raise BadConfiguration(f"{name}: row {number}: {letter!r}, expected one of {' '.join(letters)}")
    return np.array([[letters[letter] for letter in row] for row in rows], dtype=np.uint8)
