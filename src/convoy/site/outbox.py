"""Answers that the federation has not committed yet: kept on disk, and offered again until they count."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from convoy.control import json_values
from convoy.control.records import Answer, Question
from convoy.wire import convoy_pb2 as pb
from convoy.wire import values


@dataclass(frozen=True, slots=True)
class Kept:
    """One answered task, or one that failed: `error` is a line, `traceback` the trainer's."""

    answer: Answer
    round: int
    outlives: bool = False  # its question outlives its round: that round's commit does not settle it
    error: str = ""
    traceback: str = ""

    @property
    def question(self) -> str:
        """The id of the question."""
        return self.answer.question

    @property
    def digest(self) -> str:
        """The digest of the arrays; empty: none."""
        return self.answer.digest

    def to_json(self) -> str:
        """Return it as the text of a file."""
        rest = {"round": self.round, "outlives": self.outlives, "error": self.error, "traceback": self.traceback}
        return json.dumps({"answer": json_values.of_answer(self.answer), **rest})

    @classmethod
    def from_json(cls, text: str) -> Kept:
        """Return what `to_json` wrote. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
        kept = json.loads(text)
        return cls(**{**kept, "answer": json_values.answer(kept["answer"])})


ASKED: Final = "asked"  # in the folder: a line of each question that an update was given for, and what had been asked


def asked(question: Question) -> str:
    """Return the digest of everything in a question that a trainer or a filter sees."""
    said = json_values.of_question(question)
    return blake3(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Outbox:
    """The answers of one job, a small file each, which is written completely or not at all.

    The digests of questions are kept as long as the job: a different question under an answered id gets no answer,
    because the difference of two answers could reveal what the noise should hide.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Kept] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                kept = Kept.from_json(path.read_text())
            except (ValueError, TypeError, KeyError):  # incomplete after a power cut: the task is sent again
                path.unlink()
            else:
                self.answers[kept.question] = kept
        self._asked = self._read_asked()

    def _read_asked(self) -> dict[str, str]:
        path, found = self._folder / ASKED, {}
        for line in path.read_text().splitlines() if path.exists() else ():
            with suppress(ValueError):  # a power cut left half of it
                question, said = json.loads(line)
                found[question] = said
        return found

    def may_answer(self, question: Question) -> bool:
        """Whether this question has no answer yet, or the stored answer is for exactly this question."""
        said = asked(question)
        return self._asked.get(question.id, said) == said

    def put(self, kept: Kept, question: Question) -> None:
        """Store an answer, and the digest of its question."""
        if kept.digest and question.id not in self._asked:
            self._asked[question.id] = asked(question)
            with (self._folder / ASKED).open("a") as file:
                file.write(f"\n{json.dumps([question.id, self._asked[question.id]])}")
        draft = self._folder / f"{kept.question}.tmp"
        draft.write_text(kept.to_json())
        draft.replace(self._folder / f"{kept.question}.json")
        self.answers[kept.question] = kept

    def drop(self, question: str) -> Kept | None:
        """Forget one answer; return it if it was there."""
        (self._folder / f"{question}.json").unlink(missing_ok=True)
        return self.answers.pop(question, None)

    def committed(self, round_: int, folded: frozenset[str]) -> list[Kept]:
        """Forget the answers of rounds 1 to `round_`, and those to `folded`; return them.

        Those before the first round stay, and so do those to other questions that outlive their rounds.
        """
        gone = [
            kept
            for kept in self.answers.values()
            if kept.question in folded or (0 < kept.round <= round_ and not kept.outlives)
        ]
        for kept in gone:
            self.drop(kept.question)
        return gone


def as_up(job: str, kept: Kept, update: pb.Blob | None) -> pb.Up:
    """Return the message that offers an answer, or says that there is none."""
    if kept.error:
        failed = pb.TaskFailed(job=job, question=kept.question, error=kept.error, traceback=kept.traceback)
        return pb.Up(failed=failed)
    return pb.Up(offer=pb.Offer(job=job, answer=values.to_server(kept.answer), update=update))
