"""A task as the server gave it to this site, checked."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.control.records import Question, are_names
from convoy.errors import RemoteFault
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values


@dataclass(frozen=True, slots=True)
class SiteTask:
    """A task as the server gave it; `after`: the question whose answer was the site's last with a state that counts."""

    question: Question
    model: pb.Blob
    after: str

    @classmethod
    def read(cls, said: pb.Task) -> SiteTask:
        """Return the task that a message gives. Raises `RemoteFault`."""
        question = values.question(said.question, said.job)
        if said.model.digest != question.model:
            raise RemoteFault(f"task {question.id} names one model and contains another")
        if said.after and not are_names(said.job, said.after):
            raise RemoteFault(f"task {question.id} continues from an invalid question id", why=repr(said.after[:80]))
        return cls(question, said.model, said.after)
