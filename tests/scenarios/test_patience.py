"""One clock for patience: who makes no progress is left out and named, who works is waited for."""

import pytest

from tests.scenarios.conftest import adding, ended, family, left_out, put_job, took_part

pytestmark = pytest.mark.scenario
PATIENCE = 8  # seconds: several times what a node takes to start on a slow machine, while others stand at their gates
SITES = ["site-1", "site-2"]  # of jobs for two


def open_gates(gates, *sites):
    """Let the trainers go that stand at their gates."""
    for site in sites:
        gates[site].wait()
        gates[site].open()


def test_a_site_that_is_killed_for_good_is_left_out_once_and_not_waited_for_again(trio, tmp_path):
    federation, gates = trio, trio.gates
    train = adding("gate(task)")
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 4, "min_sites": 2}, patience=f"{PATIENCE}s")
    with federation.session() as session:
        job = session.submit(job).id
        for gate in gates.values():
            gate.wait()
        federation.nodes["site-3"].kill()
        for site in ("site-1", "site-2"):
            gates[site].open()
        for _ in range(3):
            open_gates(gates, "site-1", "site-2")
        detail = session.wait(job)
        federation.nodes["site-3"].start()
        assert detail.job.state == "completed", detail.job.cause
        for done in detail.rounds[1:]:
            assert took_part(done) == ["site-1", "site-2"]
            assert f"no progress for {PATIENCE} s, the job's patience" in left_out(done)["site-3"]
        times = [done.committed_at for done in detail.rounds]
        assert times[1] - times[0] > PATIENCE
        assert times[4] - times[1] < PATIENCE  # three rounds together: nobody waits for it a second time


def test_a_site_that_comes_back_takes_part_from_the_next_round_on(trio, tmp_path):
    federation, gates = trio, trio.gates
    job = put_job(
        tmp_path / "job",
        {"train.py": adding("gate(task)")},
        with_={"rounds": 4, "min_sites": 2},
        patience=f"{PATIENCE}s",
    )
    with federation.session() as session:
        job = session.submit(job).id
        for gate in gates.values():
            gate.wait()
        federation.nodes["site-3"].kill()
        for site in ("site-1", "site-2"):
            gates[site].open()
        for site in ("site-1", "site-2"):  # round 2 has begun without it
            gates[site].wait()
        federation.nodes["site-3"].start()
        for site in ("site-1", "site-2"):
            gates[site].open()
        for _ in range(2):
            open_gates(gates, "site-1", "site-2", "site-3")
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert [took_part(done)[2:] for done in detail.rounds[1:]] == [[], [], ["site-3"], ["site-3"]]
        assert [member.state for member in detail.members] == ["ended", "ended", "ended"]


def until_member(session, job, site, state):
    """Wait until a site's member of a job is in a state."""
    while session.job(job).job.state == "running":  # a watch says nothing of members
        if (site, state) in [(member.site, member.state) for member in session.job(job).members]:
            return
    raise AssertionError(f"the job ended before {site} was {state}")


def test_a_trainer_that_hangs_is_left_out_and_ended_and_a_fresh_one_takes_part_again(trio, tmp_path):
    federation, gates = trio, trio.gates
    train = adding(
        """
        if task.round == 1 and number == 3 or task.round == 2 and number != 3:
            with open(task.data["arrived"], "w") as arrived:
                arrived.write("here")
            with open(task.data["gate"]) as never:
                never.read()
        """
    )
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 3, "min_sites": 2}, patience=f"{PATIENCE}s")
    with federation.session() as session:
        job = session.submit(job).id
        gates["site-3"].wait()
        hanging = family(federation.nodes["site-3"])
        for site in ("site-1", "site-2"):  # they stand in round 2: round 1 went on without site-3
            gates[site].wait()
        assert ended(hanging, within_s=30)
        until_member(session, job, "site-3", "ready")
        for site in ("site-1", "site-2"):
            gates[site].open()
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert left_out(detail.rounds[1]) == {"site-3": f"train: no progress for {PATIENCE} s, the job's patience"}
        assert took_part(detail.rounds[3]) == ["site-1", "site-2", "site-3"]


def test_a_trainer_that_works_longer_than_the_patience_is_waited_for(trio, tmp_path):
    train = adding("import time\nif number == 2:\n    while time.process_time() < 4: pass")
    job = put_job(
        tmp_path / "job", {"train.py": train}, with_={"rounds": 1, "min_sites": 1}, sites=SITES, patience="2s"
    )
    with trio.session() as session:
        detail = session.wait(session.submit(job).id)
        assert took_part(detail.rounds[1]) == ["site-1", "site-2"]
        assert detail.rounds[1].committed_at - detail.rounds[0].committed_at > 2.5


def test_a_trainer_whose_children_do_the_work_is_waited_for(trio, tmp_path):
    work = "import time\nwhile time.process_time() < 4: pass"
    train = adding(f"import subprocess\nif number == 2:\n    subprocess.run([sys.executable, '-c', {work!r}])")
    job = put_job(
        tmp_path / "job", {"train.py": train}, with_={"rounds": 1, "min_sites": 1}, sites=SITES, patience="2s"
    )
    with trio.session() as session:
        detail = session.wait(session.submit(job).id)
        assert took_part(detail.rounds[1]) == ["site-1", "site-2"]


def test_a_round_ends_at_its_deadline_without_who_is_late_and_the_next_asks_again(trio, tmp_path):
    federation, gates = trio, trio.gates
    train = adding("if number == 3 and task.round == 1: gate(task)")
    spec = {"rounds": 3, "min_sites": 2, "deadline": "5s"}
    job = put_job(tmp_path / "job", {"train.py": train}, with_=spec, patience="60s")
    with federation.session() as session:
        job = session.submit(job).id
        gates["site-3"].wait()
        (late,) = federation.nodes["site-3"].children()
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert left_out(detail.rounds[1]) == {"site-3": "train: no answer within the round's deadline of 5 s"}
        assert [took_part(done) for done in detail.rounds[2:]] == [["site-1", "site-2", "site-3"]] * 2
        assert ended([late], within_s=30)


def test_a_site_that_joins_late_takes_part_from_the_next_round_on(trio, tmp_path):
    federation, gates = trio, trio.gates
    federation.nodes["site-3"].stop()
    train = adding("if task.round == 1: gate(task)")
    job = put_job(tmp_path / "job", {"train.py": train}, with_={"rounds": 3, "min_sites": 2})
    with federation.session() as session:
        job = session.submit(job).id
        for site in ("site-1", "site-2"):
            gates[site].wait()
        federation.nodes["site-3"].start()
        for site in ("site-1", "site-2"):
            gates[site].open()
        detail = session.wait(job)
        assert detail.job.state == "completed", detail.job.cause
        assert left_out(detail.rounds[1]) == {"site-3": "not asked in this round"}
        assert [took_part(done) for done in detail.rounds[2:]] == [["site-1", "site-2", "site-3"]] * 2


def test_a_site_without_room_at_first_takes_part_once_the_other_job_has_ended(gated, tmp_path):
    federation, gates = gated(sites=2, settings="memory: 1Gi")
    first = put_job(
        tmp_path / "first",
        {"train.py": adding("gate(task)")},
        with_={"rounds": 1}, sites=["site-2"], resources={"memory": "1Gi"},
    )  # fmt: skip
    second = put_job(
        tmp_path / "second",
        {"train.py": adding("if number == 1 and task.round == 1: gate(task)")},
        with_={"rounds": 2}, resources={"memory": "1Gi"},
    )  # fmt: skip
    with federation.session() as session:
        first = session.submit(first).id
        gates["site-2"].wait()
        second = session.submit(second).id
        gates["site-1"].wait()
        gates["site-2"].open()
        assert session.wait(first).job.state == "completed"
        gates["site-1"].open()
        detail = session.wait(second)
        assert [took_part(done) for done in detail.rounds[1:]] == [["site-1"], ["site-1", "site-2"]]


def test_a_job_whose_sites_all_fall_silent_fails_and_says_who(trio, tmp_path):
    federation, gates = trio, trio.gates
    job = put_job(tmp_path / "job", {"train.py": adding("gate(task)")}, with_={"rounds": 2}, sites=SITES, patience="5s")
    with federation.session() as session:
        job = session.submit(job).id
        for site in SITES:
            gates[site].wait()
        for site in SITES:
            federation.nodes[site].kill()
        detail = session.wait(job)
        for site in SITES:
            federation.nodes[site].start()
        assert detail.job.state == "failed"
        assert f"({' and '.join(SITES)}: no progress for 5 s, the job's patience)" in detail.job.cause
