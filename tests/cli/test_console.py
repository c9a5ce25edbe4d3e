"""The console: lines from a pipe, and what completion offers."""

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from convoy.cli import console
from convoy.cli.console import complete
from convoy.cli.console_verbs import VERBS, Around
from convoy.cli.output import Screen
from convoy.errors import NotFound
from tests.admin import rest_api as api


async def test_a_script_of_verbs_does_what_the_commands_do(convoy, rest):
    api.job_folder(rest.kit("root@a.org").transfer)
    rest.fake.may_go.clear()
    script = """\
submit_job tumours
list_jobs
check_status server
check_status client site-2
sys_info client
report_resources server
show_errors
get_job_log tumours site-1
abort_job tumours
clone_job tumours --yes
disable_client site-1
enable_client site-1
restart client site-1
shutdown server
bye
list_jobs --never
"""
    said = await convoy("console", stdin=script)
    assert (said.code, said.err) == (0, "")
    assert "root@a.org of a, project_admin" in said.out
    for part in ("submitted tumours as", "running", "takes jobs", "aborted by root@a.org", " again as ", "warning 2"):
        assert part in said.out
    assert rest.fake.left == [("root@a.org", "site-1", True), ("root@a.org", "server", False)]


async def test_a_folder_whose_job_has_another_name_is_told_that_name(convoy, rest):
    transfer = rest.kit("root@a.org").transfer
    api.job_folder(transfer).rename(transfer / "x2")
    said = await convoy("console", stdin="submit_job x2\n")
    assert "x2 is called tumours from now on, as in its job.yaml" in said.out


async def test_results_go_to_the_kits_transfer_folder(convoy, rest):
    transfer = rest.kit("lead@a.org").transfer
    api.job_folder(transfer)
    said = await convoy(
        "console", who="lead@a.org", stdin="submit_job tumours\nwatch_job tumours\ndownload_job tumours mine\n"
    )
    assert said.code == 0, said.err
    assert (transfer / "mine" / "model.safetensors").exists()


async def test_a_wrong_line_is_told_and_the_next_one_is_done(convoy):
    said = await convoy(
        "console", stdin='lst_jobs\nshow_job\nshow_job "x\ncheck_status mars\nhelp nothing\nlist_jobs\n'
    )
    assert said.code == 4
    for part in (
        "did you mean list_jobs?",
        "fix: show_job JOB",
        "close every quotation mark",
        "neither `server` nor `client`",
    ):
        assert part in said.err
    assert "no jobs yet" in said.out


async def test_a_verb_that_goes_by_another_name_here_is_told_that_name(convoy):
    said = await convoy("console", stdin="get_job_meta x\nlist_job x\ncat x\nquit\n")
    fixes = [line for line in said.err.splitlines() if "fix" in line]
    names = ("show_job", "show_job", "get_job_log", "bye")
    assert fixes == [f"  fix: did you mean {name}?" for name in names]


async def test_nobody_is_asked_about_a_job_that_is_not_there(rest):
    async def never(text):
        raise AssertionError(text)

    async with rest.client() as client:
        with pytest.raises(NotFound, match="no job 'nope'"):
            await console._do(client, Screen(), Around(rest.kit("root@a.org")), ["delete_job", "nope"], never)


async def test_help_lists_every_verb_beside_its_command(convoy):
    said = await convoy("console", stdin="?\nhelp submit_job\n")
    assert all(name in said.out for name in VERBS)
    assert said.out.count("convoy job submit") == 2


async def test_who_may_not_is_told_and_nothing_happens(convoy, rest):
    said = await convoy("console", who="look@a.org", stdin="shutdown all\n")
    assert said.code == 2
    assert rest.fake.left == []


def test_completion_offers_verbs_jobs_sites_and_folders(tmp_path):
    kit = api.make(tmp_path).kit("root@a.org")
    api.job_folder(kit.transfer)
    around = Around(kit, ["tumours", "0a1b2c3d"], ["site-1", "site-2"])
    assert complete("sub", around) == ["submit_job"]
    assert complete("submit_job ", around) == ["tumours"]
    assert complete("abort_job 0", around) == ["0a1b2c3d"]
    assert complete("get_job_log tumours s", around) == ["site-1", "site-2"]
    assert complete("check_status c", around) == ["client"]
    assert complete("check_status client site-2 s", around) == ["site-1", "site-2"]
    assert complete("help sys", around) == ["sys_info"]
    assert complete("nonsense ", around) == []


async def test_the_prompt_completes_and_remembers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    around = Around(api.make(tmp_path).kit("root@a.org"), ["tumours"], ["site-1"])
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        session = console._session(around, around.kit)
        found = list(session.completer.get_completions(Document("watch_job tum"), None))
        assert [(choice.text, choice.start_position) for choice in found] == [("tumours", -3)]
        keys.send_text("list_jobs -m 1\r")
        lines = console._typed(session)
        assert await anext(lines) == "list_jobs -m 1"
        keys.send_text("\x04")
        assert [line async for line in lines] == []
    assert "list_jobs -m 1" in (tmp_path / "state" / "convoy" / "console-clinics").read_text()


async def test_live_metrics_and_trackers_have_their_verbs(convoy, rest, tmp_path):
    api.job_folder(rest.kit("root@a.org").transfer)
    boards = tmp_path / "boards"
    script = f"""\
submit_job tumours
watch_job tumours
metrics tumours
metrics tumours site-1
track_job tumours --tensorboard {boards}
track_job tumours --tensorboard
track_job tumours --sacred x
"""
    said = await convoy("console", stdin=script)
    assert "loss" in said.out
    assert "has its 3 rounds" in said.out
    assert len(list(boards.rglob("events.out.tfevents.*"))) > 1
    assert said.err.count("track_job does not take") == 2
    assert "track_job tumours --mlflow URI" in said.err
