"""Ids of traces that every process derives alike, and what is loaded where nobody wants traces."""

import subprocess
import sys
from pathlib import Path

import pytest

from convoy.errors import BadInput
from convoy.node.phases import Phase, Phases
from convoy.node.traces import VARIABLES, own_id, parent_id, span_id, trace_id, traced
from convoy.spec.kit import Kit
from convoy.spec.settings import Settings

J = "ab" * 16
KIT = Kit(Path(), "clinics", "site", "site-1", "org", "localhost", 1, 2, Path())


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_parent_of_a_phase_at_a_site_is_the_servers_span_of_that_task():
    task = Phase("task", J, 3, 0.0, 1.0, "3.0", "site-1")
    for name in ("pull", "train", "filter", "push", "check"):
        assert parent_id(Phase(name, J, 3, 0.0, 1.0, "3.0", "site-1")) == own_id(task)
    assert parent_id(task) == own_id(Phase("ask", J, 3, 0.0, 1.0, "3.0"))
    for name in ("ask", "fold"):
        assert parent_id(Phase(name, J, 3, 0.0, 1.0, "3.0")) == span_id(J, "", "", "round", 3)
    assert parent_id(Phase("round", J, 3, 0.0, 1.0)) == 0


def test_other_jobs_rounds_sites_and_questions_have_other_ids():
    assert len({trace_id(job, number) for job in (J, "cd" * 16) for number in (1, 2)}) == 4
    phases = [("1.0", "a", "train", 1), ("1.0", "b", "train", 1), ("1.1", "a", "train", 1), ("1.0", "a", "pull", 1)]
    assert len({span_id(J, *phase) for phase in phases}) == 4


def test_a_node_without_a_setting_loads_nothing_of_opentelemetry():
    loads = """
import sys
from pathlib import Path
from pathlib import Path
import convoy.server.app, convoy.site.agent
from convoy.node.phases import Phase, Phases
from convoy.node.traces import traced
from convoy.spec.settings import Settings
phases = Phases()
with traced(phases, Settings(Path()), None):
    phases.ended(Phase("train", "j", 1, 0.0, 1.0))
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "requests"))]
"""
    subprocess.run([sys.executable, "-c", loads], check=True)


def test_a_setting_without_opentelemetry_is_refused_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        pytest.raises(BadInput, match="not installed") as refused,
        traced(Phases(), Settings(tmp_path, traces="http://127.0.0.1:4318"), KIT),
    ):
        pass
    assert refused.value.fix == "pip install 'convoy-fl[otel]'"


def test_a_variable_of_the_environment_without_opentelemetry_is_no_reason_to_stop(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLES[0], "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    phases = Phases()
    with traced(phases, Settings(tmp_path), KIT):
        assert phases.trace is None
