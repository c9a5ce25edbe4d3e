"""What a site has answered and the federation has not yet committed: kept on disk, offered again until it counts."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from convoy.wire import convoy_pb2 as pb


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered task; `digest` empty: metrics only."""

    question: str
    round: int
    digest: str
    weight: float
    metrics: dict[str, float]
    error: str = ""  # the trainer failed: one line
    traceback: str = ""  # and its traceback


ASKED: Final = "asked"  # in the folder: a line of each question that an update was given for, and what had been asked


def asked(task: pb.Task) -> str:
    """Return the digest of what a task asks: its kind, its round, its model and its numbers."""
    said = [task.kind, task.round, task.model.digest, sorted(task.numbers.items())]
    return blake3(json.dumps(said).encode()).hexdigest()


class Outbox:
    """The answers of one job, a small file each, written whole or not at all.

    What was asked is kept for as long as the job is: a question that has its answer gets no second one for another
    question, or whoever asks could take the difference of two answers that are to be seen only apart.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Answer] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                answer = Answer(**json.loads(path.read_text()))
            except (ValueError, TypeError):  # a power cut left half of it: the task comes again
                path.unlink()
            else:
                self.answers[answer.question] = answer
        self._asked = self._read_asked()

    def _read_asked(self) -> dict[str, str]:
        path, found = self._folder / ASKED, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            with suppress(ValueError):  # a power cut left half of it
                question, said = json.loads(line)
                found[question] = said
        return found

    def may_answer(self, task: pb.Task) -> bool:
        """Whether this question has no answer yet, or one to this very question."""
        said = asked(task)
        return self._asked.get(task.question, said) == said

    def put(self, answer: Answer, task: pb.Task) -> None:
        """Keep an answer, and what was asked."""
        if answer.digest and task.question not in self._asked:
            self._asked[task.question] = asked(task)
            with (self._folder / ASKED).open("a") as file:
                file.write(f"\n{json.dumps([task.question, self._asked[task.question]])}")
        draft = self._folder / f"{answer.question}.tmp"
        draft.write_text(json.dumps(asdict(answer)))
        draft.replace(self._folder / f"{answer.question}.json")
        self.answers[answer.question] = answer

    def drop(self, question: str) -> Answer | None:
        """Forget one answer; return it if it was there."""
        (self._folder / f"{question}.json").unlink(missing_ok=True)
        return self.answers.pop(question, None)

    def committed(self, round_: int) -> list[Answer]:
        """Forget the answers of rounds 1 to `round_`; return them. Those before the first round stay."""
        gone = [answer for answer in self.answers.values() if 0 < answer.round <= round_]
        for answer in gone:
            self.drop(answer.question)
        return gone


def as_up(job: str, answer: Answer, update: pb.Blob | None) -> pb.Up:
    """Return the message that offers an answer, or says that there is none."""
    if answer.error:
        return pb.Up(
            failed=pb.TaskFailed(job=job, question=answer.question, error=answer.error, traceback=answer.traceback)
        )
    return pb.Up(
        offer=pb.Offer(job=job, question=answer.question, update=update, weight=answer.weight, metrics=answer.metrics)
    )
