"""Three small tasks for the crew.

python -m examples.coding.tasks roman      prints one as `hocket publish` wants it
"""

import sys

from examples.coding.schemas import TaskGiven

SLUGIFY = TaskGiven(
    name="slugify",
    description="slugify(text) makes a piece of a URL of a title: lower-case ASCII letters, digits, single hyphens.",
    tests="""\
import unittest

from slugify import slugify


class Slugs(unittest.TestCase):
    def test_words_are_joined_by_hyphens(self):
        self.assertEqual(slugify("Hello, World!"), "hello-world")

    def test_accents_are_dropped(self):
        self.assertEqual(slugify("Crème Brûlée"), "creme-brulee")

    def test_nothing_sticks_out(self):
        self.assertEqual(slugify("  --a  b--  "), "a-b")
""",
)

ROMAN = TaskGiven(
    name="roman",
    description="to_roman(number) writes a number from 1 to 3999 in Roman numerals; others raise ValueError.",
    tests="""\
import unittest

from roman import to_roman


class Numerals(unittest.TestCase):
    def test_letters_are_added_up(self):
        self.assertEqual(to_roman(2026), "MMXXVI")

    def test_what_stands_before_is_taken_off(self):
        self.assertEqual(to_roman(4), "IV")
        self.assertEqual(to_roman(1994), "MCMXCIV")

    def test_there_is_no_zero(self):
        with self.assertRaises(ValueError):
            to_roman(0)
""",
)

INTERVALS = TaskGiven(
    name="intervals",
    description="merge(intervals) joins pairs (start, end) that overlap or touch, and returns them in order.",
    tests="""\
import unittest

from intervals import merge


class Intervals(unittest.TestCase):
    def test_what_lies_apart_stays_apart(self):
        self.assertEqual(merge([(1, 2), (4, 5)]), [(1, 2), (4, 5)])

    def test_they_come_in_any_order(self):
        self.assertEqual(merge([(6, 8), (1, 3), (2, 4)]), [(1, 4), (6, 8)])

    def test_one_within_another_is_gone(self):
        self.assertEqual(merge([(1, 10), (2, 3)]), [(1, 10)])

    def test_those_that_touch_are_one(self):
        self.assertEqual(merge([(1, 2), (2, 3)]), [(1, 3)])
""",
)

TASKS = {task.name: task for task in (SLUGIFY, ROMAN, INTERVALS)}

if __name__ == "__main__":
    sys.stdout.write(TASKS[sys.argv[1]].model_dump_json() + "\n")
