"""How far a brief is: what its events have shown so far, in words for whoever waits."""

from dataclasses import dataclass, field
from typing import Any

from hocket.observe.fact import Fact
from hocket_schemas.briefs import (
    BriefApproved,
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
from hocket_schemas.runtime import SagaCompleted, SagaFailed


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

    decision: str = ""
    """`approved` or `rejected`, and by whom."""

    ending: str = ""
    """How it ended."""

    saga: str = ""
    """What the coordinator says of it."""

    def take(self, fact: Fact) -> Step | None:
        """Learn from an event; return who has come how far when that is worth a line."""
        data: Any = fact.data
        match fact.type:
            case LibraryListed.event_type:
                self.listed = data["documents"]
                return Step(fact.publisher, f"found {_many(data['documents'], 'document')}")
            case DocumentRead.event_type:
                self.passages += len(data["passages"])
                self.read += data["part"] == data["parts"]
                return self._library(fact.publisher)
            case DocumentRefused.event_type:
                self.refused.append((data["document"], data["reason"]))
                return self._library(fact.publisher) or Step(fact.publisher, f"{data['document']} {data['reason']}")
            case BriefPlanned.event_type:
                self.questions = len(data["questions"])
                return Step(fact.publisher, f"asks {_many(self.questions, 'question')}")
            case EvidenceFound.event_type:
                self.found += 1
                if self.found == self.questions:
                    return Step(fact.publisher, f"has evidence for {_many(self.found, 'question')}")
            case BriefDrafted.event_type:
                self.version, self.drafted = data["version"], _sentences(data)
                return Step(fact.publisher, f"draft {self.version}: {_many(self.drafted, 'sentence')}")
            case RevisionRequested.event_type:
                self.objections += len(data["objections"])
                return Step(
                    fact.publisher, f"objects to {_many(len(data['objections']), 'sentence')}, wants another draft"
                )
            case BriefReviewed.event_type:
                self.reviewed = _sentences(data)
                return Step(fact.publisher, f"{_many(self.reviewed, 'sentence')} stand up to review")
            case BriefApproved.event_type | BriefRejected.event_type:
                verb = "approved" if fact.type == BriefApproved.event_type else "rejected"
                self.decision = f"{verb} by {data['by']}"
                return Step(fact.publisher, self.decision)
            case BriefPublished.event_type:
                self.ending = f"wrote {data['path']}"
                return Step(fact.publisher, self.ending)
            case BriefFailed.event_type:
                self.ending = "gave up"
                return Step(fact.publisher, f"{self.ending}: {data['reason']}")
            case SagaCompleted.event_type | SagaFailed.event_type:
                self.saga = "the brief is complete" if fact.type == SagaCompleted.event_type else "the brief has failed"
        return None

    def _library(self, publisher: str) -> Step | None:
        """What to say when the last document is settled."""
        if self.listed is None or self.read + len(self.refused) < self.listed:
            return None
        text = f"read {_many(self.read, 'document')}, {_many(self.passages, 'passage')}"
        return Step(publisher, text + (f"; could not read {len(self.refused)}" if self.refused else ""))

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
            "publisher": self.ending or self.decision or ("waits for approval" if self.reviewed is not None else ""),
            "coordinator": self.saga or ("follows the brief" if self.listed is not None else ""),
        }

    def _review(self) -> str:
        objections = f"{_many(self.objections, 'objection')}" if self.objections else ""
        if self.reviewed is None:
            return objections
        return ", ".join(text for text in (objections, f"{_many(self.reviewed, 'sentence')} stand") if text)

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
        if not self.decision:
            return "nobody has decided on the brief"
        return "the brief has not been published (publisher)"


def _sentences(data: Any) -> int:
    return sum(len(section["sentences"]) for section in data["sections"])


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


__all__ = ["Progress", "Step"]
