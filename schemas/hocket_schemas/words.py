"""How the crew compares texts: what counts as the same characters, and what as the same word."""

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:_[^\W_]+)*")

_DOUBLED = re.compile(r"([bdgmnprt])\1$")
"""A consonant that is doubled before an ending: "formatting"."""

_ENDINGS = (
    "ations", "ation", "ators", "ator", "ating", "ated", "ates", "ate",
    "ings", "ing", "ions", "ion", "ies", "ers", "er", "ed", "es", "ly", "e", "y",
)  # fmt: skip

_STEM_LENGTH_MIN = 4
"""An ending is only taken off what stays at least this long: "string" is no form of "str"."""

_STOPWORDS = """
about above after again all also although always among an and another any anything are around as at
be became because become becomes been before being below between both but by
came can cannot come could did do does doing done down during
each either else etc even ever every everything few first for from further
get gets give given gives go goes had has have having he her here hers him his how however
if in instead into is it its itself just
last least less let like made make makes making many may means might more most much must my
need needs neither never no nor not nothing now of off often on once one ones only onto or other others
otherwise our out over own per perhaps rather really
same see seen several shall she should since so some something still such
take taken takes than that the their them then there therefore these they thing things this those
though three through thus to too toward two
under unless until up upon us use used useful uses using usually
very via was way ways we well were what whatever when where whether which while who whole whom whose why
will with within without work working works would yes yet you your
"""

STOPWORDS = frozenset(_STOPWORDS.split())
"""English words that say nothing about a subject."""


def plain(text: str) -> str:
    """The whitespace rule: a run of whitespace, line breaks included, equals one space; ends are trimmed.

    Two texts say the same, character for character, when their plain forms are equal.
    """
    return " ".join(text.split())


def terms(text: str) -> list[str]:
    """The words of `text` in order, in the form in which they are compared.

    Lower case, without common English endings ("evaluates" and "evaluation" are one term), without
    stopwords, single letters and bare numbers.
    """
    return [found for word in _WORD.findall(text) if (found := term(word))]


@lru_cache(maxsize=65536)
def term(word: str) -> str:
    """The form in which one word is compared; empty for a word that says nothing."""
    word = word.lower()
    if len(word) < 2 or word in STOPWORDS or word.isdigit():
        return ""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_LENGTH_MIN:
            return _DOUBLED.sub(r"\1", word.removesuffix(ending))
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        return word[:-1]
    return word
