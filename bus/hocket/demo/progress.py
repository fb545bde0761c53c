"""How far a brief is: what its events have shown so far, in words for whoever waits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hocket.approval import APPROVE
from hocket.observe.fact import Fact
from hocket_schemas.approvals import ApprovalDecided, ApprovalRefused, ApprovalRequested
from hocket_schemas.briefs import (
    BriefDrafted,
    BriefFailed,
    BriefPlanned,
    BriefPublished,
    BriefRejected,
    BriefReviewed,
    EvidenceFound,
    RevisionRequested,
)
from hocket_schemas.documents import DocumentRead, DocumentRefused, LibraryListed


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was reached on the way, worth a line."""

    agent: str
    text: str


@dataclass(slots=True)
class Progress:
    """What is known of one brief after some of its events."""

    listed: int | None = None
    """How many documents there are; None until the folder was searched."""

    read: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Documents that could not be read, each with the reason."""

    passages: int = 0
    questions: int | None = None
    """None until the plan is made."""

    found: int = 0
    """How many questions have their evidence."""

    version: int = 0
    """Of the newest draft."""

    drafted: int = 0
    """Sentences in it."""

    objections: int = 0
    """Of the reviewer, in all drafts."""

    reviewed: int | None = None
    """Sentences that stood up to review."""

    asked: str = ""
    """What a person is asked."""

    decision: str = ""
    """What somebody decided, and who."""

    ending: str = ""
    """How it ended."""

    def take(self, fact: Fact) -> list[Step]:
        """Learn from an event; return what was reached with it. A word to one agent is told of that agent."""
        return [Step(fact.to or fact.publisher, text) for text in self._learn(fact.type, fact.data)]

    def _learn(self, event_type: str, data: Any) -> Iterator[str]:
        match event_type:
            case LibraryListed.event_type:
                self.listed = data["documents"]
                yield f"found {_many(data['documents'], 'document')}"
            case DocumentRead.event_type:
                self.passages += len(data["passages"])
                self.read += data["part"] == data["parts"]
                yield from self._library()
            case DocumentRefused.event_type:
                self.refused.append((data["document"], data["reason"]))
                yield f"{data['document']} {data['reason']}"
                yield from self._library()
            case BriefPlanned.event_type:
                self.questions = len(data["questions"])
                yield f"asks {_many(self.questions, 'question')}"
            case EvidenceFound.event_type:
                self.found += 1
                if self.found == self.questions:
                    yield f"has evidence for {_many(self.found, 'question')}"
            case BriefDrafted.event_type:
                self.version, self.drafted = data["version"], _sentences(data)
                yield f"draft {self.version}: {_many(self.drafted, 'sentence')}"
            case RevisionRequested.event_type:
                self.objections += len(data["objections"])
                yield f"objects to {_many(len(data['objections']), 'sentence')}, wants another draft"
            case BriefReviewed.event_type:
                self.reviewed = _sentences(data)
                yield f"{_many(self.reviewed, 'sentence')} stood up to review"
            case ApprovalRequested.event_type:
                self.asked = data["question"]
                yield f"asks a person: {self.asked}"
            case ApprovalDecided.event_type:
                verb = "approved" if data["option"] == APPROVE else "denied"
                self.decision = f"{verb} by {data['by']}"
                yield self.decision
            case ApprovalRefused.event_type:
                yield f"heeds no decision of {data['by']}: {data['reason']}"
            case BriefRejected.event_type:
                self.ending = "gave up"
                yield f"gave up: {BriefRejected.model_validate(data).sentence}"
            case BriefPublished.event_type:
                self.ending = f"wrote {data['path']}"
                yield self.ending
            case BriefFailed.event_type:
                self.ending = "gave up"
                yield f"gave up: {data['reason']}"

    def _library(self) -> Iterator[str]:
        """What to say when the last document is settled."""
        if self.listed == self.read + len(self.refused):
            text = f"read {_many(self.read, 'document')}, {_many(self.passages, 'passage')}"
            yield text + (f"; could not read {len(self.refused)}" if self.refused else "")

    def doing(self) -> dict[str, str]:
        """What each agent of the crew is at, by its name."""
        documents = "" if self.listed is None else f" of {self.listed}"
        refused = f", {len(self.refused)} refused" if self.refused else ""
        questions = "" if self.questions is None else f" of {self.questions}"
        return {
            "librarian": f"{self.read}{documents} documents read{refused}" if self.listed is not None else "",
            "planner": _many(self.questions, "question") if self.questions is not None else "",
            "researcher": f"evidence for {self.found}{questions} questions" if self.found else "",
            "writer": f"draft {self.version}: {_many(self.drafted, 'sentence')}" if self.version else "",
            "reviewer": self._review(),
            "publisher": self.ending or self.decision or self.asked,
            "coordinator": "follows it to its end" if self.listed is not None else "",
        }

    def _review(self) -> str:
        objections = f"{_many(self.objections, 'objection')}" if self.objections else ""
        if self.reviewed is None:
            return objections
        return ", ".join(text for text in (objections, f"{_many(self.reviewed, 'sentence')} stood up") if text)

    def missing(self) -> str:
        """What comes next and has not come, for whoever has waited in vain."""
        if self.listed is None:
            return "the folder has not been searched (librarian)"
        settled = self.read + len(self.refused)
        if settled < self.listed:
            return f"{self.listed - settled} of {_many(self.listed, 'document')} neither read nor refused (librarian)"
        if self.questions is None:
            return "no plan has been made (planner)"
        if self.found < self.questions:
            return f"no evidence for {self.questions - self.found} of {self.questions} questions (researcher)"
        if not self.version:
            return "nothing has been drafted (writer)"
        if self.reviewed is None:
            return f"draft {self.version} is being reviewed or revised (reviewer, writer)"
        if not self.asked:
            return "nobody has been asked for approval (publisher)"
        if not self.decision:
            return "nobody has decided on the brief"
        return "the brief has not been published (publisher)"


def _sentences(data: Any) -> int:
    return sum(len(section["sentences"]) for section in data["sections"])


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


__all__ = ["Progress", "Step"]
