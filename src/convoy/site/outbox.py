"""What a site has answered and the federation has not yet committed: kept on disk, offered again until it counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from convoy.wire import convoy_pb2 as pb


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered task; `digest` empty: metrics only."""

    step: str
    round: int
    digest: str
    weight: float
    metrics: dict[str, float]
    error: str = ""  # the trainer failed: one line
    story: str = ""  # and its traceback


class Outbox:
    """The answers of one job, a small file each, written whole or not at all."""

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
                self.answers[answer.step] = answer

    def put(self, answer: Answer) -> None:
        """Keep an answer."""
        draft = self._folder / f"{answer.step}.tmp"
        draft.write_text(json.dumps(asdict(answer)))
        draft.replace(self._folder / f"{answer.step}.json")
        self.answers[answer.step] = answer

    def drop(self, step: str) -> Answer | None:
        """Forget one answer; return it if it was there."""
        (self._folder / f"{step}.json").unlink(missing_ok=True)
        return self.answers.pop(step, None)

    def committed(self, round_: int) -> list[Answer]:
        """Forget the answers of rounds 1 to `round_`; return them. Those before the first round stay."""
        gone = [answer for answer in self.answers.values() if 0 < answer.round <= round_]
        for answer in gone:
            self.drop(answer.step)
        return gone


def as_up(job: str, answer: Answer, update: pb.Blob | None) -> pb.Up:
    """Return the message that offers an answer, or says that there is none."""
    if answer.error:
        return pb.Up(failed=pb.TaskFailed(job=job, step=answer.step, error=answer.error, story=answer.story))
    return pb.Up(offer=pb.Offer(job=job, step=answer.step, update=update, weight=answer.weight, metrics=answer.metrics))
