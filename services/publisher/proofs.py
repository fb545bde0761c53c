"""What a person is shown who decides on a brief, and what the decision makes of it."""

from typing import Any

from hocket.approval import EXPIRED, Decision
from hocket_schemas.briefs import DECISION, PROOF_TEXT_MAX, BriefRejected, BriefReviewed, Heading, Proof

from .files import digest_of

TITLE_LENGTH_MAX = 200


class NotEditable(Exception):
    """A decision edited more than the title of a brief, or made none of it."""


def proof_of(brief: BriefReviewed, out: str, text: str) -> Proof:
    """What to show: the text itself if it is of a size that somebody reads here, and its digest in any case."""
    return Proof(
        title=brief.title,
        out=out,
        sentences=sum(len(section.sentences) for section in brief.sections),
        documents=len(brief.sources),
        contents=[Heading(subject=s.subject, sentences=len(s.sentences)) for s in brief.sections],
        digest=digest_of(text.encode()),
        text=text if len(text) <= PROOF_TEXT_MAX else None,
        dropped=len(brief.dropped),
        unread=brief.unread,
    )


def title_of(decision: Decision, proof: Proof) -> str:
    """The title that was approved. Raises NotEditable when anything else was edited."""
    shown = proof.model_dump(mode="json")
    wanted: Any = decision.details if decision.edited else shown
    if not isinstance(wanted, dict) or any(wanted[name] != shown.get(name) for name in wanted.keys() - {"title"}):
        raise NotEditable("only the title can be edited, since the sentences are the documents' own.")
    title = wanted.get("title", proof.title)
    if not isinstance(title, str) or not title.strip() or not title.isprintable() or len(title) > TITLE_LENGTH_MAX:
        raise NotEditable(f"a title is one line of at most {TITLE_LENGTH_MAX} characters.")
    return title.strip()


def rejection(brief: BriefReviewed, decision: Decision) -> BriefRejected:
    """The end of a brief that was not approved."""
    reason = decision.reason
    if decision.option == EXPIRED:
        reason = f"{DECISION.total_seconds() / 60:g} minutes have passed."
    return BriefRejected(version=brief.version, by=", ".join(decision.by), reason=reason)
