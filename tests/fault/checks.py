"""The promises, each as a function that reads what was seen from outside and says where it was not kept.

Every check walks the history once or a fixed number of times, and knows nothing of the engine beyond what docs/wire.md
says about the log. docs/testing.md lists the invariants by their numbers, and those that cannot be checked here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson
from tests.fault.history import CLIENT, Fact, History
from tests.fault.workload import PARTS, POSITIONS, Asked, Begun, Counted, Marked, Noticed, Nudged, Ordered

from hocket.observe.audit import judge, sorted_out
from hocket.observe.finding import Severity
from hocket.subjects import tokens_of
from hocket_schemas.approvals import ApprovalDecided, ApprovalRequested
from hocket_schemas.runtime import SagaCompensated, SagaCompleted, SagaStuck
from hocket_schemas.undoing import EffectDone, UndoRequested

Loss = Literal[
    *("lost prefix", "lost middle", "lost postfix", "lost", "doubled", "phantom", "reordered", "forked", "stale"),
    *("unsettled", "early", "late", "unfolded", "causeless", "unbound", "untyped", "vacuous"),
]

CLOCK_S = 0.001
"""What two readings of one moment may differ by."""

TIMER_LATE_S = 2.0
SETTLED_S = 8.0
"""After the last fault, until a healthy owner is at work: silence, a claim, a scan."""

QUIET_S = 30.0
"""After the last fault, until nothing is left to do."""

ANSWER_S = 1.5
"""What an answer may take beyond the bound that was asked for: one append's own deadline, and the way."""


class Violation(NamedTuple):
    """A promise that was not kept."""

    invariant: str
    loss: Loss
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.loss}: {self.text}"


Found = Iterator[Violation]


def acked_is_stored(history: History) -> Found:
    """I1: every acked event is in the log."""
    stored = {(fact.where.key, fact.id) for fact in history.facts}
    acked = [(op.key, op.event_id) for op in history.operations if op.end == "ok"]
    lost = [place for place, each in enumerate(acked) if each not in stored]
    if lost:
        yield Violation("I1", _part(lost, len(acked)), f"acked, and not in the log: {[acked[i][1] for i in lost]}")


def _part(lost: list[int], of: int) -> Loss:
    """Which end of what was acked is gone."""
    if lost == list(range(len(lost))):
        return "lost prefix"
    return "lost postfix" if lost == list(range(of - len(lost), of)) else "lost middle"


def nothing_from_nowhere(history: History) -> Found:
    """I2: what is in the log was published by somebody, and what was read was in the log before it was read."""
    asked = {(op.key, op.event_id) for op in history.operations}
    for fact in history.facts:
        if fact.where.kind == "evt" and fact.where.agent == CLIENT and (fact.where.key, fact.id) not in asked:
            yield Violation("I2", "phantom", f"{fact.id} was published by nobody")
        elif fact.where.kind == "evt" and fact.where.agent not in (CLIENT, *history.agents):
            yield Violation("I2", "phantom", f"{fact.id} was published by {fact.where.agent!r}, which is nobody")
        elif fact.type in (Counted.event_type, Noticed.event_type, Marked.event_type):
            read = history.by_id.get(fact.data["of"])
            if read is None or read.seq > fact.seq:
                yield Violation("I2", "phantom", f"{fact.id} speaks of {fact.data['of']}, which was not there")
    for message, _ in history.records("act"):
        if ".coordinator." in message.subject:
            continue
        for event_id, *_ in orjson.loads(message.data)["entries"]:
            read = history.by_id.get(event_id)
            if read is None or read.seq > message.seq:
                yield Violation("I2", "phantom", f"{message.subject} holds {event_id}, which was not there")


def applied_once(history: History) -> Found:
    """I3: each event has its whole effect, once, of one execution; or it is in the dead letters, and never both."""
    subjects = Counter(stored.message.subject for kind in ("evt", "cmd", "jrn") for stored in history.records(kind))
    for subject, count in subjects.items():
        if count > 1:
            yield Violation("I3", "doubled", f"{subject} was stored {count} times")
    emitted: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for fact in (*history.of(Counted.event_type), *history.of(Marked.event_type)):
        emitted[fact.data["of"], fact.data.get("part", "counted")].append(fact.data)
    applied: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for subject, message in history.newest.items():
        if ".act." in subject and ".coordinator." not in subject:
            for event_id, part, execution, siblings in orjson.loads(message.data)["entries"]:
                applied[event_id, part].append((execution, siblings))
    for event_id, part in _wanted(history):
        yield from _whole(event_id, part, emitted[event_id, part], applied[event_id, part], history)
    noticed = Counter(fact.data["of"] for fact in history.of(Noticed.event_type))
    for fact in history.of(Counted.event_type):
        if noticed[fact.id] + (fact.id in history.dead) != 1:
            yield Violation("I3", "lost" if not noticed[fact.id] else "doubled", f"{fact.id} was not noticed once")


def _wanted(history: History) -> Iterator[tuple[str, str]]:
    """What has to have been applied by the end: each event, and of which part of its handling."""
    for fact in history.of(Ordered.event_type):
        yield fact.id, "counted"
    for fact in history.of(Begun.event_type):
        for part in PARTS:
            yield fact.id, part


def _whole(event_id: str, part: str, marks: list[Any], entries: list[tuple[int, int]], history: History) -> Found:
    name = f"{event_id} ({part})"
    dead = event_id in history.dead
    executions = {mark["execution"] for mark in marks} | {execution for execution, _ in entries}
    if not executions and not dead:
        yield Violation("I3", "lost", f"{name} had no effect")
    if len(executions) > 1 or len(entries) > 1:
        yield Violation("I3", "doubled", f"{name} took effect from executions {sorted(executions)}")
    if dead and executions and part == "counted":
        yield Violation("I3", "doubled", f"{name} is in the dead letters, and took effect")
    siblings = marks[0]["siblings"] if marks else entries[0][1] if entries else 0
    if len(marks) != siblings:
        yield Violation("I3", "lost" if len(marks) < siblings else "doubled", f"{name}: {len(marks)} of {siblings}")
    if marks and marks[0].get("applied", True) != bool(entries):
        yield Violation("I3", "lost", f"{name} has its events without its state, or the other way round")


def in_order(history: History) -> Found:
    """I4: the events of one key are applied as they stand in the log."""
    for subject, message in history.newest.items():
        if ".act.counter." in subject:
            entries = orjson.loads(message.data)["entries"]
            seqs = [history.by_id[event_id].seq for event_id, *_ in entries if event_id in history.by_id]
            if seqs != sorted(seqs):
                yield Violation("I4", "reordered", f"{subject}: {seqs}")
    newest: dict[str, int] = {}
    for fact in history.of(Counted.event_type):
        cause = history.by_id.get(fact.cause or "")
        if cause is not None:
            if cause.seq < newest.get(fact.where.key, 0):
                yield Violation("I4", "reordered", f"{fact.cause} was answered after a later event of its key")
            newest[fact.where.key] = max(cause.seq, newest.get(fact.where.key, 0))


def one_writer(history: History) -> Found:
    """I5: states are one chain, claims are one chain, and only the newest claim's line writes for an agent."""
    before: dict[str, list[Any]] = {}
    for message, _ in history.records("act"):
        if ".coordinator." not in message.subject:
            entries = orjson.loads(message.data)["entries"]
            known = before.get(message.subject, [])
            if entries[: len(known)] != known:
                yield Violation("I5", "forked", f"{message.subject} at {message.seq} forgot what it held before")
            before[message.subject] = entries
    owner: dict[str, int] = {}
    claims: dict[str, Any] = {}
    open_runs: dict[str, set[str]] = defaultdict(set)
    for message, line in history.stored:
        kind, *names = tokens_of(message.subject)
        if kind == "run":
            (open_runs[names[0]].add if message.data else open_runs[names[0]].discard)(message.subject)
        elif kind == "cur":
            count, told = len(open_runs[names[0]]), orjson.loads(message.data).get("runs")
            if told not in (count, None):
                yield Violation("I5", "forked", f"{message.subject} at {message.seq} counts {told} of {count} runs")
        if kind == "own":
            agent, claim, last = names[0], orjson.loads(message.data), claims.get(names[0])
            trusted = last["doubt"] if last and last["released"] else None if last else 0
            if not claim["released"] and claim["doubt"] != trusted:
                yield Violation("I5", "stale", f"the claim at {message.seq} was made without knowing the one before it")
            owner[agent], claims[agent] = line, claim
        elif kind in ("act", "cur", "run", "end", "jrn", "dead", "part", "due", "ask", "evt"):
            agent = names[2] if kind == "evt" else names[0]
            if agent in history.agents and owner.get(agent) != line:
                text = f"{message.subject} at {message.seq} came through line {line}, the owner's is {owner.get(agent)}"
                yield Violation("I5", "stale", text)


def sagas_end(history: History) -> Found:
    """I6: every saga has come to an end that fits what stands outside; undone in reverse of done."""
    ends: dict[str, Fact] = {}
    for kind in (SagaCompleted, SagaCompensated, SagaStuck):
        for fact in history.of(kind.event_type):
            if fact.saga not in ends or ends[fact.saga].seq < fact.seq:
                ends[fact.saga] = fact
    standing: Counter[tuple[str, int]] = Counter()
    for deed in history.deeds:
        if deed.effective:
            standing[deed.saga, deed.n] += 1 if deed.kind == "do" else -1
    for asked in history.of(Asked.event_type):
        end = ends.get(asked.saga)
        stands = [standing[asked.saga, n] for n in range(POSITIONS)]
        if end is None:
            yield Violation("I6", "unsettled", f"saga {asked.saga} has no end; outside {stands} stand")
        elif end.type == SagaCompleted.event_type and stands != [1] * POSITIONS:
            yield Violation("I6", "unsettled", f"saga {asked.saga} is completed, and outside {stands} stand")
        elif end.type == SagaCompensated.event_type and stands != [0] * POSITIONS:
            yield Violation("I6", "unsettled", f"saga {asked.saga} is compensated, and outside {stands} stand")
    yield from _in_reverse(history)


def _in_reverse(history: History) -> Found:
    """Whenever an undo was asked for, it was that of the newest effect that was known and not asked for yet."""
    done: dict[str, list[Fact]] = defaultdict(list)
    for fact in history.of(EffectDone.event_type):
        done[fact.saga].append(fact)
    asked: dict[str, set[str]] = defaultdict(set)
    for fact in history.of(UndoRequested.event_type):
        cause = history.by_id.get(fact.cause or "")
        if cause is not None and not fact.data["unknown"]:
            known = [d for d in done[fact.saga] if d.seq <= cause.seq and d.data["effect_key"] not in asked[fact.saga]]
            wanted = fact.data["effect_key"]
            if known and known[-1].data["effect_key"] != wanted and wanted not in asked[fact.saga]:
                yield Violation("I6", "reordered", f"saga {fact.saga} undoes {wanted} before what was done after it")
        asked[fact.saga].add(fact.data["effect_key"])


def timers_keep_time(history: History) -> Found:
    """I7: a timer takes effect once, never early, and soon when all is well."""
    until: dict[tuple[str, str], float] = {}
    for message, _ in history.records("run"):
        head = orjson.loads(message.data) if message.data else {}
        if head.get("until_s") and not head["waits"] and not head["approval"]:
            until.setdefault((head["subject"], "slept"), head["until_s"])
    by_subject = {stored.message.subject: stored.message for stored in history.records("evt")}
    rung = {f.data["of"]: f for f in reversed(history.of(Marked.event_type)) if f.data["part"] == "slept"}
    for begun in history.of(Begun.event_type):
        woke = rung.get(begun.id)
        subject = next((s for s in by_subject if f".{begun.id}.0." in s), "")
        due_s = until.get((subject, "slept"))
        if woke is None:
            continue
        if woke.at_s < max(begun.at_s + begun.data["delay_s"], due_s or 0.0) - CLOCK_S:
            yield Violation(
                "I7", "early", f"{begun.id} slept {woke.at_s - begun.at_s:.2f} of {begun.data['delay_s']} s"
            )
        if due_s is not None and due_s > history.healed_s + SETTLED_S and woke.at_s > due_s + TIMER_LATE_S:
            yield Violation(
                "I7", "late", f"{begun.id} woke {woke.at_s - due_s:.2f} s after it was due, and all was well"
            )


def folds_to_the_state(history: History) -> Found:
    """I8: the state is what its events say, and every emitted event has its cause."""
    told: dict[str, list[tuple[int, list[Any]]]] = defaultdict(list)
    for fact in history.of(Counted.event_type):
        cause = history.by_id.get(fact.data["of"])
        entry = [fact.data["of"], "counted", fact.data["execution"], fact.data["siblings"]]
        if cause and fact.data["applied"] and (cause.seq, entry) not in told[fact.where.key]:
            told[fact.where.key].append((cause.seq, entry))
    for key, entries in told.items():
        message = next((m for s, m in history.newest.items() if s.endswith(f".act.counter.{key}")), None)
        live = orjson.loads(message.data)["entries"] if message else []
        if [entry for _, entry in sorted(entries)] != [entry for entry in live if entry[3]]:
            yield Violation("I8", "unfolded", f"the state of {key} is not what its events come to")
    kept = sorted(history.newest.values(), key=lambda message: message.seq)
    for finding in judge(sorted_out(kept, 0), history.consumes).findings:
        if finding.severity is Severity.ERROR:
            invariant, loss = _AUDITED.get(finding.code, ("I8", "causeless"))
            yield Violation(invariant, loss, f"{finding.code}: {finding.where}: {finding.message}")


_AUDITED: dict[str, tuple[str, Loss]] = {
    "doubled": ("I3", "doubled"),
    "gap": ("I3", "lost"),
    "unfinished": ("I3", "lost"),
    "never-owned": ("I3", "lost"),
    "open-run": ("I3", "lost"),
    "handled-and-dead": ("I3", "doubled"),
    "out-of-order": ("I4", "reordered"),
}
"""Which promise an audit speaks of; of causes otherwise."""


def effective_once(history: History) -> Found:
    """I9: outside, each thing took effect at most once under its key, and each has one key."""
    effective = Counter(deed.key for deed in history.deeds if deed.kind == "do" and deed.effective)
    for key, count in effective.items():
        if count > 1:
            yield Violation("I9", "doubled", f"{key} took effect {count} times")
    keys: dict[tuple[str, int], set[str]] = defaultdict(set)
    for deed in history.deeds:
        if deed.kind == "do":
            keys[deed.saga, deed.n].add(deed.key)
    for (saga, n), found in keys.items():
        if len(found) > 1:
            yield Violation("I9", "doubled", f"{saga}/{n} was done under {len(found)} keys")


def calls_remembered(history: History) -> Found:
    """I9: a call that is remembered has one outcome, and is not made again: each was drawn once."""
    outcomes: Counter[tuple[str, str, int]] = Counter()
    for message, _ in history.records("jrn"):
        entry = orjson.loads(message.data)
        if entry.get("phase", "done") == "done" and entry["kind"] in ("step", "effect", "approval"):
            outcomes[message.subject.rpartition(".")[0], entry["name"], entry["occurrence"]] += 1
    for (_, name, occurrence), count in outcomes.items():
        if count > 1:
            yield Violation("I9", "doubled", f"{name} ({occurrence}) has {count} outcomes")


def answers_once(history: History) -> Found:
    """I3, of answers: one answer ends one wait of a run."""
    for fact in history.of(Marked.event_type):
        said = [answer for answer in fact.data["said"] if fact.data["part"] == "nudged" and answer != "expired"]
        sent = {str(nudged.data["n"]) for nudged in history.of(Nudged.event_type) if nudged.seq < fact.seq}
        if len(set(said)) < len(said):
            yield Violation("I3", "doubled", f"{fact.data['of']} took one answer for two: {said}")
        elif not sent.issuperset(said):
            yield Violation("I2", "phantom", f"{fact.data['of']} heard {said}, which nobody said")


def over_in_time(history: History) -> Found:
    """I10: once nothing is in the way any more, what was begun comes to its end."""
    if history.quiet_s is None or history.quiet_s - history.healed_s > QUIET_S:
        yield Violation("I10", "unsettled", "not over 30 s after the last fault")


def decisions_bound(history: History) -> Found:
    """I11: an approval has one decision in effect: the first that was about what was shown, in its time."""
    made: dict[str, list[Fact]] = defaultdict(list)
    for fact in history.of(ApprovalDecided.event_type):
        made[fact.data["approval"]].append(fact)
    effect: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    seqs: dict[str, int] = {}
    for fact in history.of(Marked.event_type):
        if fact.data["part"] == "decided":
            effect[fact.data["of"]].add(tuple(fact.data["said"]))
            seqs[fact.data["of"]] = fact.seq
    for asked in history.of(ApprovalRequested.event_type):
        of = asked.data["details"]["run"]
        if len(effect[of]) > 1:
            yield Violation("I11", "doubled", f"{of} was decided {sorted(effect[of])}")
        valid = [d for d in made[asked.data["approval"]] if d.data["digest"] == asked.data["digest"]]
        for option, *by in effect[of]:
            if option == "expired":
                expires_s = datetime.fromisoformat(asked.data["expires"]).timestamp()
                if any(d.at_s < expires_s - CLOCK_S for d in valid):
                    yield Violation("I11", "lost", f"{of} expired, and was decided in time")
            elif (
                not valid or valid[0].seq > seqs[of] or [valid[0].data["option"], valid[0].data["by"]] != [option, *by]
            ):
                yield Violation("I11", "unbound", f"{of} was decided {option} by {by}, not as it was shown")


def refusals_typed(history: History) -> Found:
    """I12: who asks the log for something is told within the bound, and a refusal says in its type what it is."""
    for op in history.operations:
        if not op.typed:
            yield Violation("I12", "untyped", f"{op.event_id}: {op.error!r}")
        if op.ended_s - op.began_s > op.within_s + ANSWER_S:
            took_s = op.ended_s - op.began_s
            yield Violation("I12", "late", f"{op.event_id} was answered after {took_s:.2f} s, not {op.within_s}")


CHECKS: tuple[Callable[[History], Found], ...] = (
    acked_is_stored,
    nothing_from_nowhere,
    applied_once,
    in_order,
    one_writer,
    sagas_end,
    timers_keep_time,
    folds_to_the_state,
    effective_once,
    calls_remembered,
    answers_once,
    over_in_time,
    decisions_bound,
    refusals_typed,
)


def violations(history: History) -> list[Violation]:
    """Every promise that was not kept."""
    return [violation for check in CHECKS for violation in check(history)]


def vacuous(history: History) -> str | None:
    """Why a run proves nothing; None: it does."""
    acked = sum(op.end == "ok" for op in history.operations)
    wanted = len({op.event_id for op in history.operations})
    if acked < 0.8 * wanted or not acked:
        return f"{acked} of {wanted} operations were acked"
    if not history.trouble.at_work:
        return "no fault fell while anything was in hand"
    return None


__all__ = ["CHECKS", "Loss", "Violation", "vacuous", "violations"]
