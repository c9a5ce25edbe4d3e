"""What a store of results has to do, whichever object store keeps it."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore
from safetensors.numpy import load

from convoy.control.records import Job, Round
from convoy.control.state import LiveJob
from convoy.errors import NotFound, Unreachable
from convoy.server.files import JobFiles
from convoy.server.results import Results, open_results
from convoy.server.start import needs_of
from convoy.spec.job import read_job
from convoy.store import arrays
from convoy.store.report import write_rounds
from convoy.wire import package

J, K = "a" * 32, "ab" * 16
SPEC = read_job("name: tumours\ntrainer: train.py\n", "job.yaml").to_json()


@pytest.fixture(params=["folder", "memory", "url"])
def results(request, tmp_path):
    """An empty store, one of each kind."""
    match request.param:
        case "folder":
            return open_results("", tmp_path / "results")
        case "memory":
            return Results(MemoryStore())
        case "url":
            (tmp_path / "by-url").mkdir()
            return open_results(f"file://{tmp_path / 'by-url'}", tmp_path / "unused")


@pytest.fixture
def files(tmp_path):
    """The files of a job that has run, with the digests of two models."""
    found = JobFiles(tmp_path / "job")
    found.make(b"a bundle")
    (found.logs / "site-1.log").write_text("line one\nline two\n")
    return found


def made(files, *rounds, job=J):
    """A job with rounds of (number, metrics, best), each with a model of its own."""
    record = Job(job, "tumours", "ada", "org", "d" * 64, 9, SPEC, "ending", "", 1.0)
    live, kept = LiveJob(record, needs_of(SPEC)), []
    for number, metrics, best in rounds:
        model = arrays.save(files.blobs, "test", {"w": np.full(400_000, number, np.float32)})
        live.last = Round(job, number, model, metrics, best, (("site-1", 2.0),), (("site-2", "late"),), 5.0)
        live.best = live.last if best else live.best
        kept.append(live.last)
    write_rounds(kept, files.drafts)
    return live


async def whole(results, job, name):
    """All bytes of a result."""
    return b"".join([chunk async for chunk in results.read(job, name)])


async def test_a_job_leaves_its_last_and_its_best_model_rounds_metrics_settings_and_logs(results, files):
    job = made(files, (0, {}, False), (1, {"auc": 0.9}, True), (2, {"auc": 0.8}, False))
    await results.keep(job, files, print)
    names = ["best.safetensors", "job.json", "logs/site-1.log", "metrics.jsonl", "model.safetensors", "rounds.json"]
    assert await results.names(J) == names
    assert load(await whole(results, J, "model.safetensors"))["w"][0] == 2
    assert load(await whole(results, J, "best.safetensors"))["w"][-1] == 1
    assert await whole(results, J, "logs/site-1.log") == b"line one\nline two\n"
    rounds = json.loads(await whole(results, J, "rounds.json"))
    assert [(done["round"], done["best"], done["left_out"]) for done in rounds][1] == (1, True, [["site-2", "late"]])
    lines = (await whole(results, J, "metrics.jsonl")).decode().splitlines()
    assert [json.loads(line) for line in lines][2] == {"round": 2, "auc": 0.8}
    assert json.loads(await whole(results, J, "job.json"))["spec"]["name"] == "tumours"


async def test_a_best_model_that_is_the_last_is_kept_once(results, files):
    await results.keep(made(files, (0, {}, False), (1, {}, True)), files, print)
    assert "best.safetensors" not in await results.names(J)


async def test_a_job_that_never_had_a_model_leaves_none(results, files):
    await results.keep(made(files), files, print)
    assert await results.names(J) == ["job.json", "logs/site-1.log", "metrics.jsonl", "rounds.json"]


async def test_results_outlive_the_working_files(results, files):
    await results.keep(made(files, (0, {}, False)), files, print)
    files.remove()
    assert load(await whole(results, J, "model.safetensors"))["w"].shape == (400_000,)


async def test_a_model_that_the_disk_has_lost_is_missed_in_words(results, files):
    job, said = made(files, (0, {}, True), (1, {}, False)), []
    files.blobs.condemn(job.best.model)
    await results.keep(job, files, said.append)
    assert said == ["best.safetensors is not among the results: the server's disk has lost it"]
    assert "model.safetensors" in await results.names(J)


async def test_results_in_a_folder_are_on_the_disk_before_the_blobs_are_removed(files, tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path / "results"
    await open_results("", folder).keep(made(files, (0, {}, False)), files, print)
    names = ("", "model.safetensors", "rounds.json", "metrics.jsonl", "job.json", "logs")
    assert {(folder / J / name).stat().st_ino for name in names} | {folder.stat().st_ino} <= synced


async def test_keeping_a_job_again_changes_what_is_new_and_nothing_else(results, files):
    job = made(files, (0, {}, False))
    await results.keep(job, files, print)
    job.record = replace(job.record, cause="once more")
    await results.keep(job, files, print)
    assert len(await results.names(J)) == 5
    assert json.loads(await whole(results, J, "job.json"))["cause"] == "once more"


async def test_a_large_file_comes_in_pieces(results, files):
    await results.keep(made(files, (0, {}, False)), files, print)
    pieces = [len(piece) async for piece in results.read(J, "model.safetensors")]
    assert sum(pieces) > 1_600_000
    assert max(pieces) < 8 << 20


async def test_jobs_are_told_apart_even_if_one_name_begins_with_the_other(results, files):
    await results.keep(made(files, job=J), files, print)
    await results.keep(made(files, (0, {}, False), job=K), files, print)
    assert "model.safetensors" not in await results.names(J)
    await results.remove(J, lambda: None)
    assert await results.names(J) == []
    assert "model.safetensors" in await results.names(K)


async def test_artifacts_of_sites_are_kept_and_a_package_that_is_damaged_costs_that_site_alone(results, files):
    files.artifacts.mkdir()
    large = bytes(range(256)) * 12_000
    listed = package.listing([("a b/loss.txt", 2), ("empty", 0), ("large.bin", len(large))])
    files.package("site-1").write_bytes(listed + b"ok" + large)
    files.package("site-2").write_bytes(package.listing([("good.txt", 3), ("zz.txt", 9)]) + b"short")
    (files.artifacts / ".site-3.part").write_bytes(b"half")
    said = []
    await results.keep(made(files), files, said.append)
    mine = [f"artifacts/site-1/{name}" for name in ("a b/loss.txt", "empty", "large.bin")]
    assert await results.names(J) == [*mine, "job.json", "logs/site-1.log", "metrics.jsonl", "rounds.json"]
    assert await whole(results, J, mine[0]) == b"ok"
    assert await whole(results, J, mine[1]) == b""
    assert await whole(results, J, mine[2]) == large
    assert len(said) == 1
    assert said[0].startswith("the artifacts of site-2 are not among the results: the artifacts of site-2 are damaged")


async def test_artifacts_that_cannot_be_kept_to_the_last_are_not_kept_at_all(results, files, monkeypatch):
    files.artifacts.mkdir()
    files.package("site-1").write_bytes(package.listing([("a", 1), ("b", 1), ("c", 1)]) + b"abc")
    put = obstore.put_async

    async def full(store, path, file):
        if path.endswith("/c"):
            raise OSError(errno.ENOSPC, "No space left on device")
        await put(store, path, file)

    monkeypatch.setattr(obstore, "put_async", full)
    said = []
    await results.keep(made(files), files, said.append)
    assert await results.names(J) == ["job.json", "logs/site-1.log", "metrics.jsonl", "rounds.json"]
    assert said == [
        "the artifacts of site-1 are not among the results: no room for the results: [Errno 28] No space left on device"
    ]


async def test_what_is_not_there_is_not_found(results, files):
    assert await results.names(J) == []
    await results.keep(made(files), files, print)
    for job, name in ((J, "model.safetensors"), (K, "job.json"), (J, "logs")):
        with pytest.raises(NotFound):
            await whole(results, job, name)


async def test_removing_nothing_does_nothing(results):
    await results.remove(J, lambda: None)
    assert await results.names(J) == []


async def test_a_store_that_takes_nothing_is_named(files, tmp_path):
    place = tmp_path / "results"
    results = open_results("", place)
    place.rmdir()
    place.write_text("a file where the folder was")
    with pytest.raises(Unreachable, match="the store of results does not answer"):
        await results.keep(made(files, (0, {}, False)), files, print)
