"""The small parts of the command line: text, kits, processes."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoy.cli import identity, output, processes
from convoy.errors import BadInput
from tests.admin import rest_api as api


@given(st.floats(0, 1e9), st.integers(0, 1 << 50))
def test_times_and_sizes_are_short(seconds, count):
    assert len(output.span(seconds)) <= 10
    assert len(output.size(count)) <= 12


def test_a_table_has_columns(capsys):
    output.Screen().table(("id", "name"), [(1, "long name\nof two lines"), (22, "b")])
    assert capsys.readouterr().out.splitlines() == ["ID  NAME", "1   long name\\nof two lines", "22  b"]


def test_the_kit_is_the_one_named_else_the_one_that_runs_here_else_the_only_one(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVOY_KIT", raising=False)
    rest = api.make(tmp_path)
    with pytest.raises(BadInput, match="more than one admin kit"):
        identity.find("", "", here=tmp_path)
    lead = rest.prod / "lead@a.org"
    assert identity.find(str(lead), "", here=tmp_path).server == ""
    said = {"prod": str(rest.prod), "admin": str(lead), "server": "localhost:99", "nodes": []}
    (rest.prod.parent / identity.RUNNING).write_text(json.dumps(said))
    assert identity.find("", "", here=tmp_path).kit.name == "lead@a.org"
    assert identity.find("", "", here=tmp_path).server == "localhost:99"
    assert identity.find(str(rest.prod / "boss@a.org"), "", here=tmp_path).server == "localhost:99"
    monkeypatch.setenv("CONVOY_KIT", str(rest.prod / "boss@b.org"))
    assert identity.find("", "there:1", here=tmp_path) == identity.Identity(rest.kit("boss@b.org"), "there:1")
    (rest.prod.parent / identity.RUNNING).write_text("{}")
    with pytest.raises(BadInput, match="is not a file that `convoy up` wrote"):
        identity.find(str(lead), "", here=tmp_path)


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


def test_a_process_that_does_not_leave_is_killed_and_one_that_does_is_not():
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    polite = subprocess.Popen(["sleep", "60"])
    stubborn.stdout.readline()
    assert processes.end([stubborn.pid, polite.pid, 2**22 - 7], grace_s=0.3) == [stubborn.pid]
    assert (stubborn.wait(), polite.wait()) == (-9, -15)
    assert processes.ended(stubborn.pid, within_s=0)
    assert not processes.ended(os.getpid(), within_s=0)
    stubborn.stdout.close()


def test_a_text_that_is_too_long_is_cut_and_says_so():
    assert output.cut("as it is", 8) == "as it is"
    assert output.cut("one too many", 8) == "one too…"
    assert output.cut("one two three", 5) == "one…"
