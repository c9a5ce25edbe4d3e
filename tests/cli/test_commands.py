"""What a person types, what comes back, and the exit code."""

import json
import re
import sys
import time

from convoy.admin import views
from convoy.cli import progress
from convoy.cli.output import Screen
from tests.admin import rest_api as api
from tests.cli.command_line import typed


async def test_a_job_is_submitted_and_followed_a_line_a_round_on_a_pipe(convoy, tmp_path):
    api.job_folder(tmp_path)
    said = await convoy("job", "submit", "tumours", "--watch", who="lead@a.org")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("submitted tumours as ")
    assert [line for line in lines if line.startswith("round ")] == [
        "round 1/3  loss 1  2 took part",
        "round 2/3  loss 0.5  1 took part  left out site-2: the deadline of 5 s passed  (best)",
        "round 3/3  loss 0.3333  2 took part",
    ]
    assert any(line.startswith("tumours completed after") for line in lines)
    assert "\x1b" not in said.out


async def test_for_programs_a_watch_is_a_line_of_json_for_each_change(convoy, tmp_path):
    api.job_folder(tmp_path)
    sent = json.loads((await convoy("job", "submit", "tumours", "--json")).out)
    said = await convoy("job", "watch", sent["id"][:8], "--json")
    items = [json.loads(line) for line in said.out.splitlines()]
    assert items[-1]["job"]["state"] == "completed"
    assert [made["round"] for item in items for made in item["rounds"]] == [1, 2, 3]


async def test_rounds_are_listed_after_one_and_one_is_shown_with_every_site(convoy, tmp_path):
    api.job_folder(tmp_path)
    await convoy("job", "submit", "tumours", "--watch", who="lead@a.org")
    said = await convoy("job", "rounds", "tumours", "--after", "1", "-n", "1")
    assert said.out.splitlines() == [
        "round 2/3  loss 0.5  1 took part  left out site-2: the deadline of 5 s passed  (best)"
    ]
    said = await convoy("job", "rounds", "tumours", "--json")
    assert [json.loads(line)["round"] for line in said.out.splitlines()] == [1, 2, 3]
    said = await convoy("job", "rounds", "tumours", "2")
    words = [" ".join(line.split()) for line in said.out.splitlines()]
    assert words[0] == "round 2, the best so far"
    assert "site-1 10" in words
    assert "site-2 the deadline of 5 s passed" in words
    said = await convoy("job", "rounds", "tumours", "3")  # in which one of two sites decides
    words = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "site-1 30, 75 % of the round's weight" in words
    assert "site-2 10" in words
    assert "site-1 (30, 75 % of the round's weight), site-2 (10)" in (await convoy("job", "show", "tumours")).out
    said = await convoy("job", "rounds", "tumours", "9")
    assert (said.code, "there is no round 9" in said.err) == (1, True)
    said = await convoy("job", "watch", "tumours", "--after", "2")
    assert [line.split("  ")[0] for line in said.out.splitlines()[:1]] == ["round 3/3"]


async def test_a_watch_of_a_job_that_runs_already_says_its_state_before_its_rounds(rest, tmp_path, capsys):
    async with rest.client() as client:
        job = await client.submit(api.job_folder(tmp_path))
        seen = [item async for item in client.watch(job.id)]
    rounds = [made for item in seen for made in item.rounds]
    runs = seen[-1].job.model_copy(update={"state": "running", "ended_at": 0.0})
    told = [
        views.Progress(job=runs, rounds=rounds[:2]),
        views.Progress(job=runs, rounds=[]),
        views.Progress(job=seen[-1].job, rounds=rounds[2:]),
    ]

    async def items():
        for item in told:
            yield item

    capsys.readouterr()  # the server's own log
    await progress._lines(items(), Screen())
    words = [line.split("  ")[0].split(" after ")[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["tumours running", "round 1/3", "round 2/3", "round 3/3", "tumours completed"]


async def test_a_job_that_fails_shows_the_traceback_and_the_site_and_leaves_with_1(convoy, tmp_path):
    api.job_folder(tmp_path, config="{fail_at: 2}")
    said = await convoy("job", "submit", "tumours", "-w")
    assert said.code == 1
    assert "\n  at site-2, task 2.1:\n  Traceback" in said.out
    assert said.err.splitlines()[:2] == ["error: job tumours failed", "  why: train failed at site-2"]
    assert "train failed at site-2" not in said.out  # once is enough
    shown = await convoy("job", "show", "tumours")
    assert "what failed:\n  at site-2, task 2.1:" in shown.out


async def test_a_job_whose_patience_ran_out_leaves_with_3(convoy, tmp_path):
    api.job_folder(tmp_path, config="{silent_at: 2}")
    said = await convoy("job", "submit", "tumours", "-w")
    assert said.code == 3
    assert said.err.splitlines()[:2] == ["error: job tumours failed", "  why: no progress for 5 s, the job's patience"]
    assert (await convoy("job", "watch", "tumours")).code == 3


async def test_a_job_is_shown_with_who_took_part_and_who_was_left_out_and_why(convoy, tmp_path):
    api.job_folder(tmp_path)
    await convoy("job", "submit", "tumours", "-w")
    said = await convoy("job", "show", "tumours")
    shown = await convoy("job", "show", "tumours", "--json")
    row = next(line for line in said.out.splitlines() if line.startswith("2 "))
    assert row.split("  ") == [part for part in row.split("  ") if part.strip() or part == ""]
    assert "site-1 (10)" in row
    assert "site-2: the deadline of 5 s passed" in row
    assert "best" in row
    assert f"convoy job logs {json.loads(shown.out)['job']['id'][:8]} --site site-2" in said.out
    listed = await convoy("job", "list")
    assert listed.out.splitlines()[0].startswith("ID        NAME     STATE")
    assert "completed  3/3" in listed.out


async def test_logs_results_abort_delete_and_clone(convoy, rest, tmp_path):
    api.job_folder(tmp_path)
    await convoy("job", "submit", "tumours", "-w")
    logs = await convoy("job", "logs", "tumours", "-f", "--site", "site-2")
    assert logs.out.splitlines()[0] == "site-2 | round 1: loss 1.000"
    assert len(logs.out.splitlines()) == 3
    assert (await convoy("job", "fetch", "tumours", "-o", "out")).code == 0
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == 1 << 20
    await convoy("job", "fetch", "tumours")
    assert len(list(rest.kit("root@a.org").transfer.glob("tumours-*/model.safetensors"))) == 1
    rest.fake.may_go.clear()
    (job,) = rest.fake.kept
    clone = json.loads((await convoy("job", "clone", job, "--json")).out)
    assert sorted(clone["files"]) == ["job.yaml", "train.py"]
    said = await convoy("job", "clone", clone["id"][:10])  # what that is, the server says: somebody must look
    assert (said.code, len(said.err.splitlines())) == (1, 3)
    assert f"job {clone['id']}, signed by root@a.org" in said.out
    assert "aborted by root@a.org" in (await convoy("job", "abort", clone["id"][:10])).out
    told = await convoy("job", "delete", clone["id"])
    assert (told.code, told.out.startswith(f"deleted {clone['name']} ({clone['id'][:8]}), aborted ")) == (0, True)
    assert len(json.loads((await convoy("job", "list", "--json")).out)) == 1


async def test_sites_and_the_server_are_shown_and_switched(convoy, rest):
    assert (await convoy("site", "list")).out.splitlines()[1].startswith("site-1  a    connected")
    assert (await convoy("site", "disable", "site-1")).out == "site-1 is disabled\n"
    assert json.loads((await convoy("site", "show", "site-1", "--json")).out)["enabled"] is False
    assert (await convoy("site", "enable", "site-1")).code == 0
    assert "takes jobs" in (await convoy("status")).out
    assert (await convoy("problems", "-n", "2")).out == "server | warning 1\nserver | warning 2\n"
    assert (await convoy("restart", "site-2")).code == 0
    assert (await convoy("shutdown", "all")).code == 0
    targets = [("site-2", True), ("site-1", False), ("site-2", False), ("server", False)]
    assert rest.fake.left == [("root@a.org", *target) for target in targets]
    assert (await convoy("site", "revoke", "site-1")).out.startswith("the certificate of site-1 is revoked")
    assert re.search(r"away, revoked [0-9.]+ s ago", (await convoy("site", "show", "site-1")).out)


async def test_a_site_is_shown_with_its_certificate(convoy, rest):
    known, ends = rest.fake._site, time.time() + 3600
    rest.fake._site = lambda name: known(name).model_copy(update={"certificate_ends_at": ends, "renews_at": ends - 60})
    assert " and is renewed at " in (await convoy("site", "show", "site-1")).out
    rest.fake._site = lambda name: known(name).model_copy(update={"certificate_ends_at": ends})
    assert "and is not renewed by itself" in (await convoy("site", "show", "site-1")).out
    rest.fake._site = known
    assert "certificate" not in (await convoy("site", "show", "site-1")).out


async def test_errors_have_three_lines_and_a_code_each(convoy, tmp_path):
    api.job_folder(tmp_path)
    said = await convoy("job", "submit", "tumours", who="look@a.org")
    assert said.code == 2
    assert said.err.splitlines() == [
        "error: look@a.org does not have the right to do this",
        "  why: a member has the right 'submit' for nothing",
        "  fix: ask a project_admin",
    ]
    assert (await convoy("job", "show", "nothing")).code == 1
    assert (await convoy("site", "show", "nothing")).code == 1
    assert (await convoy("job", "submit", "nowhere")).code == 4
    assert (await convoy("job", "shwo")).err.splitlines()[1] == "  fix: convoy job --help"
    assert (await convoy("nonsense")).code == 4
    wrong = await convoy("job", "show", "nothing", "--json")
    assert json.loads(wrong.err)["error"]["kind"] == "NotFound"
    assert wrong.out == ""


async def test_what_is_wrong_with_a_job_is_told_with_file_and_line(convoy, tmp_path):
    folder = api.job_folder(tmp_path)
    with (folder / "job.yaml").open("a") as file:
        file.write("patiance: 10m\n")
    for verb in ("check", "submit"):
        said = await convoy("job", verb, "tumours")
        assert said.code == 4
        assert said.err.startswith('error: job.yaml:6:1: unknown key "patiance"')


async def test_a_server_that_is_not_there_is_told(tmp_path):
    rest = api.make(tmp_path)
    env = {"CONVOY_KIT": str(rest.prod / "root@a.org")}
    said = await typed("status", cwd=tmp_path, env=env)
    assert said.code == 2
    assert said.err.startswith(f"error: no server answers at localhost:{rest.port}")


async def test_no_kit_here_is_told(tmp_path):
    said = await typed("job", "list", cwd=tmp_path)
    assert said.code == 4
    assert "there is no admin kit here" in said.err


async def test_a_new_job_folder_passes_the_check_and_is_not_written_twice(tmp_path):
    assert (await typed("job", "new", "first", cwd=tmp_path)).code == 0
    assert (await typed("job", "check", "first", cwd=tmp_path)).code == 0
    assert "already exists" in (await typed("job", "new", "first", cwd=tmp_path)).err
    assert (await typed("job", "new", "second", "--like", "torch_mlp", cwd=tmp_path)).code == 0
    assert "\nname: second\n" in (tmp_path / "second" / "job.yaml").read_text()
    assert "convoy job submit second --watch" in (tmp_path / "second" / "README.md").read_text()
    refused = await typed("job", "new", "third", "--like", "torch", cwd=tmp_path)
    assert refused.code != 0
    assert "there is no example 'torch'" in refused.err
    assert "the examples are breast_cancer, " in refused.err
    assert "such as --like breast_cancer" in (await typed("job", "new", "third", "--like", "zzz", cwd=tmp_path)).err
    near = await typed("job", "new", "third", "--like", "xgboost_bag", cwd=tmp_path)
    assert 'did you mean "xgboost_bagging"?' in near.err
    assert not (tmp_path / "third").exists()
    assert "is not a valid name for a job" in (await typed("job", "new", "../first", cwd=tmp_path)).err


async def test_provision_and_kits(tmp_path):
    assert (await typed("provision", "-p", "projekt.yml", cwd=tmp_path)).code == 4
    assert not list(tmp_path.iterdir())
    first = json.loads((await typed("provision", "--json", cwd=tmp_path)).out)
    assert first["sample_written"]
    made = json.loads((await typed("provision", "--json", cwd=tmp_path)).out)
    site = tmp_path / made["folder"] / "site-1"
    assert json.loads((await typed("kit", "inspect", site, "--json", cwd=tmp_path)).out)["name"] == "site-1"
    assert (await typed("kit", "verify", site, cwd=tmp_path)).code == 0
    (site / "startup" / "join.token").chmod(0o644)
    said = await typed("kit", "verify", site, cwd=tmp_path)
    assert said.code == 4
    assert "BAD" in said.out
    refused = await typed("run", site, cwd=tmp_path)
    assert refused.code == 4
    assert "chmod 600" in refused.err
    admin = tmp_path / made["folder"] / "admin@nvidia.com"
    assert "is the kit of an admin" in (await typed("run", admin, cwd=tmp_path)).err


async def test_help_is_shown_where_no_command_is_named(tmp_path):
    for words in ((), ("job",), ("site",), ("kit",), ("--help",)):
        said = await typed(*words, cwd=tmp_path)
        assert said.code == 0
        assert said.out.startswith("Usage: convoy")


async def test_help_shows_the_first_line_of_each_command_in_full(tmp_path):
    said = await typed("job", "--help", cwd=tmp_path)
    assert "..." not in said.out.partition("Commands:")[2]
    assert "List the rounds of a job, a line each; with ROUND, show that one with every site" in " ".join(
        said.out.split()
    )


async def loaded_by(code, cwd):
    import asyncio

    heavy = ("asyncio", "pydantic", "httpcore", "cryptography", "rich", "prompt_toolkit", "grpc", "numpy", "yaml")
    heavy += ("convoy.control.records", "convoy.control.events")
    code += f"\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().splitlines()[-1]


async def test_help_loads_nothing_heavy(tmp_path):
    assert await loaded_by("import convoy.cli.main", tmp_path) == "[]"


async def test_a_submit_loads_only_what_it_needs_before_the_server_has_the_bundle(rest, tmp_path):
    folder = api.job_folder(tmp_path)
    code = f"""
import asyncio
from pathlib import Path
import convoy.cli.main, convoy.cli.verbs, convoy.cli.identity
from convoy.admin.client import connect
async def main():
    async with connect({str(rest.prod / "root@a.org")!r}, server="localhost:{rest.port}") as client:
        await client.send(await client.pack(Path({str(folder)!r})))
asyncio.run(main())
"""
    assert await loaded_by(code, tmp_path) == "['asyncio', 'httpcore', 'cryptography', 'yaml']"
