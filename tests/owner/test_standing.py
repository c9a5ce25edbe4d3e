"""How a site is, from its files: data that are never opened, problems of its log, a health port that lies."""

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from convoy.owner import standing
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings


def settings_of(**data):
    return Settings(Path("/nowhere"), data={name: str(path) for name, path in data.items()})


def test_data_are_looked_at_and_never_opened(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path)
    (tmp_path / "file").write_bytes(b"123")
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    given = settings_of(
        a=tmp_path / "folder", b=tmp_path / "file", c=tmp_path / "pipe", d=tmp_path / "none", e="s3://x/y"
    )
    found = {it.name: (it.kind, it.size, it.files) for it in standing.data(given, None)}
    assert found["a"] == ("folder", 5, 1)  # the link is not followed
    assert found["b"] == ("file", 3, 1)
    assert [found[name][0] for name in "cde"] == ["other", "missing", "address"]


def test_a_folder_of_very_many_files_is_counted_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "MAX_FILES", 5)
    for number in range(9):
        (tmp_path / str(number)).write_bytes(b"1")
    (found,) = standing.data(settings_of(a=tmp_path), None)
    assert (found.files, found.size, found.more) == (5, 5, True)


@pytest.fixture
def kit(tmp_path):
    (tmp_path / "work").mkdir()
    return Kit(tmp_path, "p", "site", "site-1", "a", "localhost", 1, 2, tmp_path / "work")


def test_problems_are_the_newest_warnings_and_errors_of_both_formats(kit):
    lines = [
        "2026 [info     ] ready",
        "2026 [warning  ] one",
        '{"level": "error", "event": "two"}',
        '{"level": "info"}',
    ]
    (kit.work / "node.log").write_text("\n".join(["2026 [error    ] old"] * 10_000 + lines))
    found = standing.problems(kit)
    assert found[:2] == ['{"level": "error", "event": "two"}', "2026 [warning  ] one"]
    assert len(found) == standing.MAX_PROBLEMS


def test_a_log_that_is_not_there_has_no_problems(kit):
    assert standing.problems(kit) == []
    assert standing.logs(kit) == []


def test_a_certificate_that_is_not_there_yet_is_none(kit):
    assert standing.certificate(kit) is None


@pytest.mark.parametrize("said", [b"nonsense", b"HTTP/1.1 503 x\r\ncontent-length: 99999\r\n\r\n" + b"x" * 99999, b""])
def test_a_health_port_that_says_nonsense_is_not_connected(kit, said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            line, _ = server.accept()
            with line:
                line.recv(1000)
                line.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        settings = replace(settings_of(), health_port=server.getsockname()[1])
        trouble = standing.connection(settings, 1 << 22)  # a process that there is not: the port of the settings
        thread.join()
    assert trouble
    assert len(trouble) <= standing.MAX_ANSWER + 100


def test_a_site_that_does_not_run_is_not_connected():
    assert standing.connection(settings_of(), 0) == "the site's agent is not running"
