"""What a brief should ask: the subjects that a topic, or the documents themselves, call for."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from hocket_schemas.briefs import Question
from hocket_schemas.words import plain, terms

from .survey import Candidate, Survey, Text

PASSAGES_COUNTED_MAX = 6
"""A subject gains nothing from having more passages than this."""

CATALOGUE_PASSAGES_MIN = 25
"""A heading above so many passages is a catalogue: it counts the less the longer it is."""

PASSAGES_COMPARED = 4
"""A heading is as close to the topic as its closest passages, so many of them."""

QUESTIONS_MIN = 3
"""Documents that name fewer subjects are asked for their main points too."""

MAIN_TERMS = 12
"""Terms that the main points are looked for by."""

SCORE_SHARE_MIN = 0.2
"""A subject with less than this share of the best one's score is no longer about the matter."""

REPEATED_SHARE = 0.6
"""What a subject is still worth after one with a word in common, or from the same document."""

_PART = re.compile(r"\s*(?:[,;:/]|\b(?:and|or|versus|vs\.?)\b)+\s*", re.IGNORECASE)
_INFLECTION = re.compile(r"(?:s|ing|ed)$")
_PREDICATES = frozenset({"behave", "differ", "interact", "relate", "work"})
_QUESTION_WORDS = frozenset({"how", "what", "when", "where", "which", "who", "why"})


def questions_of(survey: Survey, topic: str, most: int) -> list[Question]:
    """At most `most` questions, the most telling first, grouped by the parts of the topic if there is one.

    No question comes out when the documents hold no prose, or none of the topic's words.
    """
    candidates = list(survey.candidates())
    if not topic.strip():
        chosen = _choose(survey, candidates, _salience(survey, candidates), most)
        if survey.tf and len(chosen) < min(most, QUESTIONS_MIN):
            chosen.append(_main_points(survey))
        return [_question(no, candidate, ()) for no, candidate in enumerate(chosen, 1)]
    asked = [_asked(survey, part) for part in parts_of(topic)]
    asked = list({part.terms: part for part in asked if part.terms}.values())[:most]
    questions: list[Question] = []
    taken = list(asked)
    for i, part in enumerate(asked):
        room = most * (i + 1) // len(asked) - len(questions) - 1
        more = _choose(survey, candidates, _closeness(survey, candidates, part.terms), room, part.terms, taken)
        taken += more
        questions += [_question(len(questions) + n, c, part.terms) for n, c in enumerate([part, *more], 1)]
    return questions


def title_of(title: str, topic: str, folder: str) -> str:
    """What the brief is called: as asked, or by its topic, or by the folder of its documents."""
    name = re.sub(r"[-_\s]+", " ", PurePath(folder).name).strip()
    chosen = plain(title) or plain(topic).rstrip(".?!") or name or "Brief"
    return chosen[0].upper() + chosen[1:]


def parts_of(topic: str) -> list[str]:
    """The things that a topic names, each able to stand alone.

    "How Python evaluates expressions and handles exceptions" has two: the second takes over "How Python",
    which stands before the word that looks like its own first one. "How ownership and borrowing work" has
    two as well, and they are just "Ownership" and "Borrowing".
    """
    parts = [part.split() for part in _PART.split(plain(topic).rstrip(".?!")) if terms(part)]
    if len(parts) > 1 and len(parts[0]) == 2 and parts[0][0].lower() in _QUESTION_WORDS:
        parts[0] = parts[0][1:]
        parts[-1] = parts[-1][:-1] if parts[-1][-1].lower() in _PREDICATES and len(parts[-1]) > 1 else parts[-1]
    whole = [_completed(part, parts[0]) if part is not parts[0] else part for part in parts]
    return [" ".join(part)[0].upper() + " ".join(part)[1:] for part in whole]


def _completed(part: list[str], first: list[str]) -> list[str]:
    """A part with what stands in the first one before the word that is of a kind with its own first word."""
    ending = _INFLECTION.search(part[0].lower())
    if ending is None or part[0].lower() in _QUESTION_WORDS:
        return part
    alike = [i for i, word in enumerate(first) if word.lower().endswith(ending[0])]
    return [*first[: alike[0]], *part] if alike else part


def _salience(survey: Survey, candidates: Sequence[Candidate]) -> list[float]:
    """How much the documents make of each candidate."""
    return [
        sum(survey.salience(t) for t in c.terms)
        / len(c.terms)
        * math.sqrt(min(len(c.texts), PASSAGES_COUNTED_MAX) * min(1.0, CATALOGUE_PASSAGES_MIN / len(c.texts)))
        for c in candidates
    ]


def _closeness(survey: Survey, candidates: Sequence[Candidate], wanted: Sequence[str]) -> list[float]:
    """How close each candidate's passages come to what is wanted, and its own words too."""
    whole = sum(survey.rarity(t) for t in wanted)
    return [
        sum(sorted((_match(survey, survey.texts[i], wanted) for i in c.texts), reverse=True)[:PASSAGES_COMPARED])
        * (1 + sum(survey.rarity(t) for t in wanted if t in c.terms) / whole)
        for c in candidates
    ]


def _match(survey: Survey, text: Text, wanted: Sequence[str]) -> float:
    # Two mentions tell more than one; more than two say only that the passage is long.
    return sum(survey.rarity(t) * min(text.counts.get(t, 0), 2) for t in wanted)


def _choose(
    survey: Survey,
    candidates: Sequence[Candidate],
    scores: Sequence[float],
    most: int,
    wanted: Sequence[str] = (),
    taken: Sequence[Candidate] = (),
) -> list[Candidate]:
    """The best candidates that differ from each other and from those taken already."""
    chosen: list[Candidate] = []
    pool = {i: score * candidates[i].share for i, score in enumerate(scores) if score > 0}
    enough = SCORE_SHARE_MIN * max(pool.values(), default=0.0)
    while pool and len(chosen) < most:
        best = max(pool, key=lambda i: (pool[i], -i))
        if pool[best] < enough:
            break
        pick = candidates[best]
        del pool[best]
        if any(_alike(pick.terms, other.terms) for other in [*taken, *chosen]):
            continue
        chosen.append(pick)
        home = _home(survey, pick)
        for i in pool:
            shared = any(t in pick.terms and t not in wanted for t in candidates[i].terms)
            pool[i] *= (REPEATED_SHARE if shared else 1.0) * (
                REPEATED_SHARE if _home(survey, candidates[i]) == home else 1.0
            )
    return chosen


def _alike(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two subjects would get much the same answer."""
    common = sum(t in b for t in a)
    return common > 0 and common >= min(len(a), len(b))


def _home(survey: Survey, candidate: Candidate) -> str:
    """The document that says most about a candidate."""
    counts = Counter(survey.texts[i].document for i in candidate.texts)
    return max(counts, key=lambda document: (counts[document], document), default="")


def _main_points(survey: Survey) -> Candidate:
    """What to ask of documents that name few subjects: what they make most of."""
    wanted = sorted(survey.tf, key=lambda t: (-survey.salience(t), t))[:MAIN_TERMS]
    return Candidate("Main points", tuple(wanted), (), 1.0)


def _asked(survey: Survey, part: str) -> Candidate:
    """A part of the topic, with those of its terms that the documents know."""
    return Candidate(part, tuple(dict.fromkeys(t for t in terms(part) if t in survey.tf)), (), 1.0)


def _question(no: int, candidate: Candidate, topic: tuple[str, ...]) -> Question:
    subject = candidate.subject[0].upper() + candidate.subject[1:]
    return Question(
        no=no,
        subject=subject,
        text=f"What do the documents say about “{subject}”?",
        terms=list(candidate.terms),
        context=[t for t in topic if t not in candidate.terms],
    )
