"""Who holds a job's blobs at its server: each model, question and answer, by name, and when it lets go."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.control.records import Round
from convoy.control.view import ReadOnlyJob


def model(round_: int) -> str:
    """Return the holder of a committed model, or of one that is about to be."""
    return f"model.{round_}"


def state(round_: int) -> str:
    """Return the holder of the workflow's own state as of a round."""
    return f"state.{round_}"


def asked(question: str) -> str:
    """Return the holder of the model that a question is about."""
    return f"question.{question}"


def answer(question: str, site: str) -> str:
    """Return the holder of what one site answers to a question, from its first byte on."""
    return f"answer.{question}.{site}"


def needed(job: ReadOnlyJob) -> Iterator[tuple[str, str]]:
    """Yield each holder that the job's records speak of, and the digest that it holds."""
    models = _models(job)
    for record in models:
        yield model(record.round), record.model
    if job.last is not None and job.last.state:
        yield state(job.last.round), job.last.state
    for question in job.questions.values():
        yield asked(question.record.id), question.record.model
        for task in question.tasks.values():
            if task.answer is not None and task.answer.digest:
                yield answer(question.record.id, task.site), task.answer.digest


def stays(job: ReadOnlyJob, holder: str) -> bool:
    """Whether a holder of these still needs what it holds.

    What a commit makes superfluous stays until its model is on the disk for good: its record may not even be durable
    yet, and a server that is killed goes on from the commit before it.
    """
    kind, _, rest = holder.partition(".")
    match kind:
        case "model":
            return int(rest) >= job.synced or int(rest) in [record.round for record in _models(job)]
        case "state":
            return int(rest) >= job.synced
        case "question" | "answer":
            question = ".".join(rest.split(".", 2)[:2])
            undone = any(question in commit.questions for commit in job.unsynced)
            return undone or question in job.questions or question in job.pending
        case _:
            return False


def passing(holder: str) -> bool:
    """Whether a holder is none of these: somebody who has a blob in hand for a moment, and lets go of it himself."""
    return holder.partition(".")[0] not in ("model", "state", "question", "answer")


def _models(job: ReadOnlyJob) -> list[Round]:
    """Return the rounds whose models are kept: the last that was called best, and the last."""
    best = (job.best, *(commit.best for commit in job.unsynced))
    return list({record.round: record for record in (*best, job.last) if record is not None}.values())
