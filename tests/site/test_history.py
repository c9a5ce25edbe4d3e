"""The history of a site: bounded, whole after a kill at any moment, and true about what left."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from convoy.control.costs import Cost
from convoy.control.records import Answer
from convoy.site import bundles, history, record
from convoy.site.history import History, Journal, entries
from convoy.site.record import Flows, Record, Tally
from convoy.spec.filters import Clip, Exclude

JOB = "a" * 32
NAMES = ("a", "b")
NO_FLOWS = Flows()


def lines(path):
    return list(entries(path.read_bytes()))


def test_a_torn_line_is_skipped_by_readers_and_cut_off_by_the_next_process(tmp_path):
    path = tmp_path / "history.jsonl"
    Journal(path).add({"kind": "begun", "job": "1"})
    with path.open("ab") as file:
        file.write(b'{"kind": "ended", "job": "1", "rea')
    assert [it["kind"] for it in lines(path)] == ["begun"]
    Journal(path).add({"kind": "ended", "job": "1"})
    assert [it["kind"] for it in lines(path)] == ["begun", "ended"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_full_file_becomes_the_older_one_and_no_line_is_lost_but_the_oldest(tmp_path):
    journal = Journal(tmp_path / "history.jsonl", max_bytes=1000)
    for number in range(100):
        journal.add({"kind": "begun", "job": str(number)})
    sizes = [journal.path.stat().st_size, journal.older.stat().st_size]
    assert all(0 < size <= 1000 for size in sizes)
    numbers = [int(it["job"]) for path in (journal.older, journal.path) for it in lines(path)]
    assert numbers == list(range(numbers[0], 100))
    assert sorted(it.name for it in tmp_path.iterdir()) == ["history.1.jsonl", "history.jsonl"]


def test_texts_and_lists_of_others_are_bounded(tmp_path):
    path = tmp_path / "history.jsonl"
    hostile = {
        "kind": "answer",
        "job": "j",
        "reason": "\u202e" * 5000,
        "metrics": ["\x00" * 500] * 10_000,
        "n": float("nan"),
    }
    Journal(path).add(hostile)
    assert path.stat().st_size <= history.MAX_LINE
    (found,) = lines(path)
    assert len(found["reason"]) == history.MAX_REASON + 1
    assert found["n"] == 0.0


@pytest.mark.parametrize("text", ["\x00", "\U0001f600", "\ud800", '"'], ids=ascii)
def test_no_line_is_longer_than_its_readers_take_and_each_is_read(tmp_path, text):
    path = tmp_path / "history.jsonl"
    hostile = {f"text{number}": text * 5000 for number in range(50)} | {"list": [text * 500] * 50, "reason": text * 500}
    Journal(path).add({"kind": "answer", "job": "j", **hostile})
    (line,) = path.read_bytes().splitlines()
    assert len(line) < history.MAX_LINE
    assert [it["kind"] for it in lines(path)] == ["answer"]


def test_words_stay_as_they_are_written(tmp_path):
    path = tmp_path / "history.jsonl"
    Journal(path).add({"kind": "begun", "job": "j", "name": "Nierenkrebs-Größe"})
    assert "Größe" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [b"[1]", b"{}", b'{"kind": 1, "job": "j"}', b"\xff", b"[" * 9000, b"nonsense"])
def test_what_is_no_entry_is_skipped(line):
    assert list(entries(line + b'\n{"kind": "begun", "job": "j"}\n')) == [{"kind": "begun", "job": "j"}]


def test_a_disk_without_room_is_said_and_leaves_no_half_of_a_line(tmp_path):
    said = []
    made = History(tmp_path / "missing", said.append)
    made.note(history.BEGUN, "j")
    assert "history.jsonl" in said[0]


def both(path):
    """Return the numbers in both files; a kill may come when the full file has just been renamed."""
    return [int(it["job"]) for file in (history.older(path), path) if file.exists() for it in lines(file)]


WRITER = """
import sys
from pathlib import Path
from convoy.site.history import Journal
journal, number = Journal(Path(sys.argv[1]), max_bytes=20_000), int(sys.argv[2])
while True:
    journal.add({"kind": "begun", "job": str(number), "text": "x" * 300})
    print(number, flush=True)
    number += 1
"""


def test_a_kill_at_any_moment_loses_at_most_the_line_that_is_being_written(tmp_path):
    path, number = tmp_path / "history.jsonl", 0
    for wanted in (3, 50, 7, 120, 1):
        command = [sys.executable, "-c", WRITER, str(path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            for _ in range(wanted):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read().split()
        written = max([number + wanted - 1, *map(int, said)])
        found = both(path)
        assert found[-1] in (written, written + 1)  # the last one may have been written and not been said
        number = found[-1] + 1
    whole = both(path)
    assert whole == list(range(whole[0], number))


def asked(number):
    return SimpleNamespace(id=f"{number}.0", round=number, kind="train")


def opened(folder, flows=NO_FLOWS):
    (folder / "job").mkdir(exist_ok=True)
    return Record(JOB, folder / "job", History(folder, pytest.fail), lambda: flows)


def admitted():
    spec = SimpleNamespace(name="tumours", trainer="train.py", workflow="fedavg")
    who = SimpleNamespace(name="bo@b.org", org="b", role="lead")
    return SimpleNamespace(spec=spec, who=who, digest="d" * 64, leave=SimpleNamespace(logs=False))


def test_a_job_is_recorded_from_its_begin_to_its_end_across_restarts(tmp_path):
    begun = opened(tmp_path)
    begun.begun(admitted(), ["images", "patients"], ["patients"])
    answer = Answer("1.0", digest="e" * 64, weight=3.0, metrics={"loss": 0.5, "auc": 0.9})
    begun.answered(answer, asked(1), 400, ["clip norm=1"], Cost(cpu_s=2.0))
    again = opened(tmp_path, Flows(live=7, live_stayed=2, log=90))
    again.begun(admitted(), ["images", "patients"], ["patients"])
    again.answered(answer, asked(1), 400, ["clip norm=1"], Cost(cpu_s=2.0))  # the kill came before the outbox had it
    again.answered(Answer("2.0", digest="f" * 64), asked(2), 100, [], Cost(cpu_s=1.0))
    again.stayed("3.0", "NaN")
    again.ended("the job is over")
    first, last = lines(tmp_path / history.JOBS)
    assert (first["kind"], first["name"], first["submitter"], first["org"]) == ("begun", "tumours", "bo@b.org", "b")
    assert (first["data"], first["withheld"], first["digest"]) == (["images"], ["patients"], "d" * 64)
    tally = Tally.read(last["tally"])
    assert (tally.answers, tally.size, tally.metrics, tally.stayed) == (2, 500, 2, 1)
    assert (tally.live, tally.live_stayed, tally.log, tally.logs_leave) == (7, 2, 90, False)
    assert tally.cost.cpu_s == 3.0
    assert tally.filters == ("clip norm=1",)
    kinds = [(it["kind"], it["question"]) for it in lines(tmp_path / history.ANSWERS)]
    assert kinds == [("answer", "1.0"), ("answer", "1.0"), ("answer", "2.0"), ("stayed", "3.0")]


def test_a_job_that_was_refused_has_no_end_and_no_beginning(tmp_path):
    made = opened(tmp_path)
    made.refused("no rule of `run` fits")
    made.ended("the job is over")
    (entry,) = lines(tmp_path / history.JOBS)
    assert (entry["kind"], entry["reason"]) == ("refused", "no rule of `run` fits")


def test_a_tally_survives_its_file_and_nonsense_counts_as_nothing(tmp_path):
    tally = Tally(answers=3, filters=("noise sigma=1",), cost=Cost(cpu_s=1.5), logs_leave=False)
    assert Tally.read(json.loads(json.dumps(tally.plain()))) == tally
    for nonsense in (None, [], {"answers": "many", "cost": {"cpu_s": "x"}}, {"cost": {"other": 1}}, {"answers": True}):
        assert Tally.read(nonsense) == Tally()
    assert Tally.read({"size": 10**400, "live": -1, "log": 7}) == Tally(log=7)
    (tmp_path / record.FILE).write_bytes(b'{"answers": 3')
    assert record.read_tally(tmp_path) is None


@pytest.mark.parametrize(
    ("older", "newer", "answers"),
    [
        (None, b'{"answers": 1}\n{"answers": 2}\n', 2),
        (None, b'{"answers": 1}\n{"answers": 2}\n{"ans', 1 + 1),  # killed in the middle of a line
        (b'{"answers": 7}\n', None, 7),  # killed before the new file
        (b'{"answers": 7}\n', b"", 7),  # the disk was full
        (b'{"answers": 7}\n', b'{"an', 7),
        (b'{"answers": 7}\n', b'{"answers": 8}\n\xff[garbled', 8),
        (b'{"answers": 7}\n', b"[]\n5\n", 7),
    ],
)
def test_the_last_whole_line_of_a_tally_counts(tmp_path, older, newer, answers):
    for path, data in ((history.older(tmp_path / record.FILE), older), (tmp_path / record.FILE, newer)):
        if data is not None:
            path.write_bytes(data)
    assert record.read_tally(tmp_path).answers == answers


def test_a_tally_goes_on_over_full_files_and_restarts_and_counts_a_filter_once(tmp_path):
    long = f"exclude tensors={','.join(['layer'] * 40)}"
    for start in range(0, 300, 100):
        made = opened(tmp_path)
        made.begun(admitted(), [], [])
        for number in range(start, start + 100):
            made.answered(Answer(f"{number}.0", digest="e" * 64), asked(number), 10, [long], Cost())
    found = record.read_tally(tmp_path / "job")
    assert (found.answers, found.size, len(found.filters)) == (300, 3000, 1)
    assert sum(path.stat().st_size for path in (tmp_path / "job").glob("tally*")) <= 2 * record.ROTATED


def test_filters_are_described_with_their_numbers():
    assert record.described(Clip(1.5, ("train",))) == "clip norm=1.5"
    assert record.described(Exclude(NAMES)) == "exclude tensors=a,b"


def test_bundles_are_kept_after_their_jobs_and_the_oldest_go_first(tmp_path):
    for number in range(4):
        job = tmp_path / "bundle"
        job.write_bytes(bytes([number]) * 100)
        bundles.keep(job, tmp_path, f"{number}")
        os.utime(tmp_path / bundles.FOLDER / f"{number}", (number, number))
        job.unlink()
    assert bundles.kept(tmp_path, "0").read_bytes() == b"\0" * 100
    (tmp_path / "bundle").write_bytes(b"new")
    bundles.keep(tmp_path / "bundle", tmp_path, "new", most=250)
    assert [bundles.kept(tmp_path, name) is not None for name in ("new", "3", "2", "1", "0")] == [True] * 3 + [
        False
    ] * 2
