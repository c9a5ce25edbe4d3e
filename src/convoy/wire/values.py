"""Questions and answers as messages, and back: what comes from another process is checked here, once for everybody."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Final

from convoy.control import json_values, points
from convoy.control.costs import NOTHING, Cost
from convoy.control.points import Point
from convoy.control.records import Answer, JobId, Question, SiteName, are_names
from convoy.errors import BadInput, RemoteFault
from convoy.model import reply
from convoy.model.blob import PACKINGS, Layout
from convoy.model.reply import Slot
from convoy.spec.units import MAX_DURATION_S
from convoy.wire import convoy_pb2 as pb

MAX_KIND: Final = 255  # characters
MAX_NUMBER: Final = (1 << 31) - 1  # the highest number of a round, or of answers that a question waits for
MAX_SITES: Final = 100_000  # sites that a question names
MAX_METRICS: Final = 1000  # metrics of one answer; they are kept as long as the job
MAX_NAME: Final = 255  # characters of a metric's name
MAX_BYTES: Final = 1 << 50  # of one answer, and of a site's state

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def blob(layout: Layout, whole: bytes) -> pb.Blob:
    """Return the message that names a blob: with all of its bytes, or with its header where there are none."""
    if whole:
        return pb.Blob(digest=layout.digest, size=layout.size, whole=whole)
    return pb.Blob(digest=layout.digest, size=layout.size, header=layout.header)


def question_to(question: Question) -> pb.Question:
    """Return a question as a message; its job, and the round that folded it, are not in it."""
    made = pb.Question(
        id=question.id,
        kind=question.kind,
        round=question.round,
        rounds=question.rounds,
        model=question.model,
        has_reply=question.reply is not None,
        reply_bytes=question.reply_bytes,
        settings=question.settings,
        at_least=question.at_least,
        sites=question.sites,
        sample=question.sample,
        deadline_s=question.deadline_s,
        quorum=question.quorum,
        grace_s=question.grace_s,
        max_norm=question.max_norm,
        by_arrival=question.by_arrival,
        outlives=question.outlives,
        partial=question.partial,
        helper=question.helper,
        cohort=question.cohort,
    )
    for slot in question.reply or ():
        shape = [-1 if length is None else length for length in slot.shape]
        made.reply.append(pb.Slot(name=slot.name, dtype=slot.dtype, shape=shape))
    return made


def to_site(question: Question) -> pb.Question:
    """Return a question as a site receives it: without the other sites of the cohort."""
    return question_to(replace(question, sites=(), cohort=()))


def question(said: pb.Question, job: str) -> Question:
    """Return the question that a message asks. Raises `RemoteFault` for an invalid one."""
    if not are_names(job, said.id):
        raise RemoteFault("a question has an invalid id", why=repr(said.id[:80]))
    if not 0 < len(said.kind) <= MAX_KIND or "\0" in said.kind:
        raise RemoteFault(f"a question is of the kind {said.kind[:20]!r}…", why=f"wanted 1 to {MAX_KIND} characters")
    if len(said.helper) > MAX_KIND:
        raise RemoteFault(f"question {said.id} needs a helper with a long name", why=f"wanted at most {MAX_KIND}")
    times = (said.deadline_s, said.grace_s)
    if not all(math.isfinite(number) and number >= 0 for number in (*times, said.max_norm)):
        raise RemoteFault(f"question {said.id} has an invalid number", why="wanted finite numbers from 0 up")
    whole = (said.round, said.rounds, said.at_least, said.sample, said.quorum)
    if max(whole) > MAX_NUMBER or max(times) > MAX_DURATION_S or said.reply_bytes > MAX_BYTES:
        raise RemoteFault(f"question {said.id} has a number that is too large", why=f"{max(*whole, *times):g}")
    if max(len(said.sites), len(said.cohort)) > MAX_SITES:
        raise RemoteFault(f"question {said.id} names too many sites", why=f"{MAX_SITES} are the limit")
    if said.model and not _DIGEST.fullmatch(said.model):
        raise RemoteFault(f"question {said.id} names a model with an invalid digest", why=repr(said.model[:80]))
    if not isinstance(json_values.read_json(said.settings or "{}", f"the settings of question {said.id}"), dict):
        raise RemoteFault(f"the settings of question {said.id} are not a mapping")
    return Question(
        job=JobId(job),
        id=said.id,
        kind=said.kind,
        round=said.round,
        rounds=said.rounds,
        model=said.model,
        reply=_slots(said) if said.has_reply else None,
        reply_bytes=said.reply_bytes,
        settings=said.settings or "{}",
        at_least=said.at_least,
        sites=tuple(said.sites),
        sample=said.sample,
        deadline_s=said.deadline_s,
        quorum=said.quorum,
        grace_s=said.grace_s,
        max_norm=said.max_norm,
        by_arrival=said.by_arrival,
        outlives=said.outlives,
        partial=said.partial,
        helper=said.helper,
        cohort=tuple(SiteName(site) for site in said.cohort),
    )


def _slots(said: pb.Question) -> tuple[Slot, ...]:
    if len(said.reply) > reply.MAX_SLOTS:
        raise RemoteFault(f"question {said.id} asks for too many arrays", why=f"{reply.MAX_SLOTS} are the limit")
    slots = tuple(Slot(it.name, it.dtype, tuple(None if n == -1 else n for n in it.shape)) for it in said.reply)
    try:
        for slot in slots:
            reply.check_slot(slot)
    except BadInput as problem:
        raise RemoteFault(problem.what, why=problem.why) from problem
    if len({slot.name for slot in slots}) < len(slots):
        raise RemoteFault(f"question {said.id} asks for one array twice")
    return slots


def answer_to(answer: Answer) -> pb.Answer:
    """Return an answer as a message."""
    return pb.Answer(
        question=answer.question,
        digest=answer.digest,
        weight=answer.weight,
        metrics=dict(answer.metrics),
        value=answer.value,
        state=answer.state,
        state_bytes=answer.state_bytes,
        cost=cost_to(answer.cost),
        packed=answer.packed,
    )


def to_server(answer: Answer) -> pb.Answer:
    """Return an answer as the server receives it: without the digest of the site's state, which depends on its data."""
    return answer_to(answer._replace(state=""))


def to_workflow(answer: Answer) -> pb.Answer:
    """Return an answer as a workflow receives it: without its cost, so that no model can depend on times."""
    return answer_to(answer._replace(cost=NOTHING))


def answer(said: pb.Answer) -> Answer:
    """Return the answer that a message gives. Raises `RemoteFault` for an invalid one."""
    for digest in filter(None, (said.digest, said.state)):
        if not _DIGEST.fullmatch(digest):
            raise RemoteFault("an answer names a blob with an invalid digest", why=repr(digest[:80]))
    if len(said.metrics) > MAX_METRICS:
        raise RemoteFault(f"an answer has {len(said.metrics)} metrics", why=f"{MAX_METRICS} are the limit")
    if any(len(name) > MAX_NAME for name in said.metrics):
        raise RemoteFault("an answer has a metric with a long name", why=f"{MAX_NAME} characters are the limit")
    if not all(map(math.isfinite, (said.weight, *said.metrics.values()))) or said.weight < 0:
        why = "the weight and the metrics must be finite, and the weight not negative"
        raise RemoteFault("an answer has an invalid number", why=why)
    if said.state_bytes > MAX_BYTES:
        raise RemoteFault("an answer has a state that is too large", why=f"{said.state_bytes} bytes")
    if said.packed and said.packed not in PACKINGS.values():
        raise RemoteFault("an answer is packed in a way that nobody knows", why=repr(said.packed[:80]))
    if said.value:
        json_values.read_json(said.value, "the value of an answer")
    return Answer(
        question=said.question,
        digest=said.digest,
        weight=said.weight,
        metrics=dict(said.metrics),
        value=said.value,
        state=said.state,
        state_bytes=said.state_bytes,
        cost=cost(said.cost) if said.HasField("cost") else NOTHING,
        packed=said.packed,
    )


def cost_to(cost: Cost) -> pb.Cost:
    """Return what answers took as a message."""
    return pb.Cost(**cost._asdict())


def cost(said: pb.Cost) -> Cost:
    """Return what a message says that an answer took. Raises `RemoteFault` for numbers that cannot be."""
    found = Cost(**{name: getattr(said, name) for name in Cost._fields})
    if not found.usable:
        raise RemoteFault("an answer has a cost that cannot be", why=f"{found.plain()}")
    return found


def point_to(point: Point) -> pb.Point:
    """Return a point as a worker sends it: its node knows the rest."""
    return pb.Point(step=point.step, phase=point.phase, values=point.values)


def points_of(said: pb.Points, round_: int, at: float) -> list[Point]:
    """Return the points of a worker's message, which has come at a time in a round. Raises `RemoteFault`."""
    if len(said.points) > points.MAX_POINTS:
        raise RemoteFault(f"a message has {len(said.points)} points", why=f"{points.MAX_POINTS} are the limit")
    found = [
        Point(dict(it.values), it.step if it.HasField("step") else None, it.phase, round_, at) for it in said.points
    ]
    for point in found:
        if wrong := points.problem(point):
            raise RemoteFault("a point of live metrics is invalid", why=wrong)
    return found
