"""What a model might have answered to the three tasks, as a script: for trying the crew without a model.

Nothing here thinks. Of the second task the first attempt is wrong, of the third the first two; each later one is only
given when the prompt tells what the one before has failed at.

    python -m examples.coding.rehearsal script.json      writes it for tests/fault/scripted_model.py
"""

import json
import sys
from pathlib import Path
from typing import Any

SLUGIFY = '''\
"""Pieces of URLs."""

import re
import unicodedata


def slugify(text: str) -> str:
    """Lower-case ASCII letters, digits, and single hyphens."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
'''

ROMAN_LONG = '''\
"""Roman numerals."""

LETTERS = [(1000, "M"), (500, "D"), (100, "C"), (50, "L"), (10, "X"), (5, "V"), (1, "I")]


def to_roman(number: int) -> str:
    """The number in Roman numerals."""
    if not 0 < number < 4000:
        raise ValueError(f"{number} has no Roman numeral")
    letters = ""
    for value, letter in LETTERS:
        letters += letter * (number // value)
        number %= value
    return letters
'''

ROMAN = ROMAN_LONG.replace(
    'LETTERS = [(1000, "M"), (500, "D"), (100, "C"), (50, "L"), (10, "X"), (5, "V"), (1, "I")]',
    'LETTERS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")]\n'
    'LETTERS += [(10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]',
)

INTERVALS_UNSORTED = '''\
"""Intervals, as pairs of start and end."""


def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join those that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for start, end in intervals:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
'''

INTERVALS_APART = INTERVALS_UNSORTED.replace("in intervals:", "in sorted(intervals):").replace(
    "[0], end)", "[0], max(end, merged[-1][1]))"
)

INTERVALS = INTERVALS_APART.replace("start < merged", "start <= merged")

Cue = tuple[list[str], list[Any]]
"""What a conversation has to hold, all of it, and the answers to one that does."""


def plan(name: str, step: str) -> Cue:
    """The answer to who plans."""
    return [f"Plan task {name}."], [[["final_result", {"steps": [step], "reads": []}]]]


def write(name: str, source: str, *told: str) -> Cue:
    """The answer to who writes, and is told this."""
    return [f"Write {name}.py.", *told], [[["final_result", {"source": source}]]]


CUES: list[Cue] = [
    plan("slugify", "Take accents off, then join what is left by hyphens."),
    write("slugify", SLUGIFY),
    plan("roman", "Take the largest letter that fits, again and again."),
    write("roman", ROMAN, "AssertionError: 'IIII' != 'IV'"),
    write("roman", ROMAN_LONG),
    plan("intervals", "Go through them once, and extend the last one while they overlap."),
    write("intervals", INTERVALS, "sorted(intervals)", "Lists differ: [(1, 2), (2, 3)] != [(1, 3)]"),
    write("intervals", INTERVALS_APART, "Lists differ: [(6, 4)] != [(1, 4), (6, 8)]"),
    write("intervals", INTERVALS_UNSORTED),
]
"""The first that fits counts, so what is told more of comes first."""

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({"cues": CUES}))
