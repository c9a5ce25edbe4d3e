"""Jobs that try to learn of single patients: from statistics, and with code of their own where a policy forbids it."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from convoy import testing
from convoy.control.policy import Host, Submitter, refusal
from convoy.control.records import Question
from convoy.errors import Refused
from convoy.flows.fleet import NotEnough
from convoy.model.reply import slots_of
from convoy.site.release import Handed, Release
from convoy.spec.job import Job
from convoy.spec.policy import PolicyFile
from convoy.spec.tables import TableRules
from convoy.store import arrays
from convoy.store.blobs import BlobFolder
from convoy.wire import convoy_pb2 as pb
from convoy.worker import complete
from convoy.worker.built_in import KINDS
from tests.federation import Federation
from tests.flows.test_statistics import rows_of, write
from tests.scenarios.conftest import put_job

PATIENTS = 300
STATISTICS = {"table": "patients", "columns": ["age"], "statistics": ["count", "mean"]}


@pytest.fixture
def site(tmp_path):
    """One site whose table has an identifier, and one patient alone above 100."""
    rows = [(f"id-{place}", sex, float(age), bmi) for place, (sex, age, bmi) in enumerate(rows_of(PATIENTS, 4))]
    rows[17] = ("id-17", "f", 103.0, 26.0)
    return {"site": write(tmp_path / "patients.csv", rows, ("id", "sex", "age", "bmi"))}, rows


def told(sites, **given):
    result = testing.run("statistics", KINDS, sites=sites, **{**STATISTICS, **given})
    return json.loads(result.model["statistics.json"].tobytes())


def test_a_histogram_of_bins_so_narrow_that_each_holds_one_patient_tells_of_none(site):
    sites, _ = site
    for ends in ([102.9, 103.1], [0, 200], [102, 104]):
        bars = told(sites, statistics=["histogram"], bins=1000, ranges={"age": ends})["columns"]["age"]["histogram"]
        counts = np.array([*bars["counts"], bars["below"], bars["above"]])
        assert ((counts == 0) | (counts >= 10)).all(), ends


def test_the_differences_of_any_two_histograms_and_quantiles_have_no_rows_or_enough(site):
    sites, _ = site
    thresholds = {}
    for low in range(85, 105):
        bars = told(sites, statistics=["histogram"], bins=3, ranges={"age": [low, low + 20.5]})["columns"]["age"]
        edges, counts = bars["histogram"]["edges"], [bars["histogram"]["below"], *bars["histogram"]["counts"]]
        thresholds |= dict(zip(edges, np.cumsum(counts).tolist(), strict=True))  # rows below each edge
    found = sorted(thresholds.values())
    assert all(more - less == 0 or more - less >= 10 for less, more in itertools.pairwise(found))


def test_an_identifier_has_no_groups_and_a_guessed_one_is_like_one_that_is_not_there(site):
    sites, _ = site
    with pytest.raises(NotEnough, match="no value of 'id' may be released here"):
        told(sites, by="id")
    said = told(sites, by="id", groups=["id-17", "id-of-nobody"])["groups"]
    assert said["id-17"] == said["id-of-nobody"]
    assert said["id-17"]["rows"] == {"suppressed": "fewer than 10 rows"}


def test_groups_asked_for_one_by_one_tell_no_more_than_together(tmp_path):
    rows = [*[("f", 50.0, 20.0)] * 60, *[("m", 60.0, 20.0)] * 40, *[("x", 103.0, 20.0)] * 3]
    sites = {"site": write(tmp_path / "patients.csv", rows)}
    alone = {group: told(sites, by="sex", groups=[group])["groups"][group]["rows"] for group in "fmx"}
    assert alone["f"] == 60
    assert all(alone[group] == {"suppressed": "fewer than 10 rows"} for group in "mx")  # or 103 - 60 - 40 is 3


def test_a_column_that_one_patient_lacks_does_not_show_that_patients_other_values(tmp_path):
    rows = [("f", float(age), 20.0 + age % 7) for age in range(20, 80)]
    rows[5] = ("f", 25.0, float("nan"))
    sites = {"site": write(tmp_path / "patients.csv", rows)}
    said = told(sites, columns=["age", "bmi"], statistics=["mean", "correlation"])
    assert said["correlation"]["matrix"][0][1] == {"suppressed": "fewer than 10 rows"}


def policy(folder, text):
    (folder / "policy.yaml").write_text(text)
    return PolicyFile(folder / "policy.yaml")


def test_a_table_kept_for_statistics_is_not_given_to_the_code_of_a_job_under_any_name(tmp_path):
    rules = policy(tmp_path, "tables: {patients: {only: statistics}}")
    data = {"patients": f"{tmp_path}/p.csv", "again": f"{tmp_path}/./p.csv", "all": str(tmp_path), "other": "/srv/x"}
    job = _job(trainer="train.py")
    assert Release(None, rules).withheld(job, data) == ["patients", "again", "all"]
    assert Release(None, rules).withheld(_job(), data) == []


@pytest.mark.parametrize("kind", ["kmeans", "regression", "survival", "cox"])
def test_a_table_kept_for_statistics_is_not_fitted_and_one_kept_for_analytics_is(site, tmp_path, kind):
    data = site[0]["site"]
    task = SimpleNamespace(kind=kind, site="site", settings={"table": "patients"}, data=data,
                           tables={"patients": TableRules(only="statistics")})  # fmt: skip
    with pytest.raises(Refused, match=f"a '{kind}' question is a fit"):
        KINDS[kind](task)
    task.tables = {"patients": TableRules(only="analytics")}
    assert complete.opened(task)[0].names == ["id", "sex", "age", "bmi"]
    # the agent judges again, by the policy of now
    handed, question = _answer(tmp_path, kind, [100])
    assert Release(None, policy(tmp_path, "tables: {patients: {only: analytics}}")).answer(handed, question)
    with pytest.raises(Refused, match=f"does not admit '{kind}' questions for this table"):
        Release(None, policy(tmp_path, "tables: {patients: {only: statistics}}")).answer(handed, question)


def test_the_code_of_jobs_is_not_given_a_table_kept_for_analytics(tmp_path):
    rules = policy(tmp_path, "tables: {patients: {only: analytics}}")
    data = {"patients": f"{tmp_path}/p.csv", "other": "/srv/x"}
    assert Release(None, rules).withheld(_job(trainer="train.py"), data) == ["patients"]


def _answer(place, kind, rows):
    """Return an answer of Convoy's own trainer with these rows, and its question."""
    blobs = BlobFolder(place / "blobs")
    blobs.folder.mkdir()
    model = arrays.save(blobs, "task.1.0", {})
    question = Question("j" * 32, "1.0", kind, 1, model=model, reply=slots_of({"rows": ("i8", (None,))}),
                        reply_bytes=1000, settings='{"table": "patients"}')  # fmt: skip
    digest, whole = arrays.hand_over(place / "out", {"rows": np.array(rows, np.int64)})
    up = pb.WorkerUp(answer=pb.Answer(question="1.0", digest=digest, weight=1.0), wholes={digest: whole})
    return Handed(blobs, place / "out", up, own=True), question


def test_a_job_with_code_is_refused_where_files_cannot_be_kept_from_it(tmp_path):
    rules = policy(tmp_path, "tables: {patients: {only: statistics}}").now()
    who, bare = Submitter("a@b.c", "org", "lead"), Host("site", "org", missing={"files": "no Landlock"})
    assert "cannot keep its tables from the code of a job" in str(refusal(rules, _job(trainer="train.py"), who, bare))
    assert refusal(rules, _job(), who, bare) is None
    assert refusal(rules, _job(trainer="train.py"), who, Host("site", "org")) is None


def test_a_job_without_code_cannot_bring_it_as_an_image(tmp_path):
    rules = policy(tmp_path, 'images: ["*"]').now()
    who, host = Submitter("a@b.c", "org", "lead"), Host("site", "org", makes_pods=True)
    said = str(refusal(rules, _job(image="registry.example.org/mine"), who, host))
    assert "Convoy's own runs in the site's image alone" in said


def _job(**given):
    return Job(name="describe", workflow="flow.py:run", **given)


@pytest.mark.scenario
def test_a_real_site_enforces_its_policy_whatever_workflow_and_code_a_job_brings(tmp_path):
    """`only: statistics` keeps the table from code; statistics by a workflow of the job's own are suppressed alike."""
    made = Federation(tmp_path / "fed", sites=2, settings="data: {patients: patients.csv}")
    for number, node in enumerate(made.nodes.values()):
        write(node.kit / "local" / "patients.csv", [*rows_of(200, number), ("x", 103.0, 20.0)])
    rule = "tables: {patients: {only: statistics, minimum_count: 25, extremes: true, digits: 3}}\n"
    (made.nodes["site-1"].kit / "local" / "policy.yaml").write_text(rule)
    made.up()
    try:
        _describe(made, tmp_path)
        _read(made, tmp_path)
        _ask(made, tmp_path)
    finally:
        made.down()


def _run(made, folder):
    with made.session() as session:
        detail = session.wait(session.submit(folder).id)
        lines = [f"{line.site} | {line.text}" for line in session.logs(detail.job.id)]
        return detail, lines, session.fetch(detail.job.id, folder.parent / f"{folder.name}-results")


def _describe(made, place):
    folder = place / "describe"
    folder.mkdir()
    with_ = STATISTICS | {"by": "sex", "groups": ["f", "x"], "min_sites": 2, "statistics": ["count", "max", "mean"]}
    (folder / "job.yaml").write_text(json.dumps({"name": "describe", "workflow": "statistics", "with": with_}))
    detail, lines, files = _run(made, folder)
    assert detail.job.state == "completed", (detail.job.cause, lines)
    said = json.loads(next(file for file in files if file.name == "statistics.json").read_text())
    assert said["sites"] == ["site-1", "site-2"]
    assert said["groups"]["x"]["rows"] == {"suppressed": "fewer than 10 or 25 rows"}
    assert said["columns"]["age"]["max"] == {"suppressed": "the policy of site-2 does not release it"}
    assert said["tables"][0]["title"].startswith("all rows: ")


def _read(made, place):
    train = (
        "import convoy, os\n\ndef initial():\n    return {}\n\n@convoy.train\ndef train(task):\n"
        "    print('found', [path for path in task.config['guesses'] if os.path.exists(path)])\n"
        "    return convoy.Reply({}, metrics={'rows': len(open(task.data['patients']).readlines())})\n"
    )
    guesses = [str(made.nodes["site-1"].kit / "local" / "patients.csv"), "/data/patients"]
    with_ = {"rounds": 1, "min_sites": 1}
    job = put_job(place / "read", {"train.py": train}, with_=with_, config={"guesses": guesses})
    detail, lines, _ = _run(made, job)
    (made_round,) = [one for one in detail.rounds if one.round == 1]
    assert [one.site for one in made_round.took_part] == ["site-2"]
    assert "this site keeps the data 'patients' from the code of jobs" in made_round.left_out[0].reason
    assert any(line.startswith("site-1") and line.endswith("found []") for line in lines), lines


def _ask(made, place):
    """A workflow of its own asks Convoy's trainer for more than the built-in one would."""
    flow = (
        "async def run(fleet):\n    async for round in fleet.rounds(1):\n"
        "        told = {'table': 'patients', 'columns': ['age'], 'by': 'sex', 'groups': ['x'], 'parts': True,\n"
        "                'pairs': False, 'extremes': True, 'minimum_count': 1}\n"
        "        shapes = {'rows': ('i8', (None,)), 'minimum': ('i8', (1,)), 'extremes': ('i8', (1,))}\n"
        "        shapes['moments.count'] = ('i8', (None, 1))\n"
        "        for name in ('mean', 'm2', 'min', 'max'):\n            shapes[f'moments.{name}'] = ('f8', (None, 1))\n"
        "        for name in ('column', 'group'):\n            shapes[f'parts.{name}'] = ('i8', (None,))\n"
        "        for name in ('low', 'high'):\n            shapes[f'parts.{name}'] = ('f8', (None,))\n"
        "        shapes['parts.count'] = ('i8', (None,))\n"
        "        async for answer in fleet.ask('statistics', {}, reply=shapes, settings=told):\n"
        "            for name, array in sorted(answer.model.items()):\n"
        "                if name.endswith(('rows', 'count')):\n"
        "                    fleet.log(f'{answer.site} {name} {sorted(array.ravel().tolist())}')\n"
        "        await round.commit({})\n"
    )
    folder = place / "ask"
    folder.mkdir()
    (folder / "flow.py").write_text(flow)
    (folder / "job.yaml").write_text(json.dumps({"name": "ask", "workflow": "flow.py:run"}))
    detail, lines, _ = _run(made, folder)
    assert detail.job.state == "completed", (detail.job.cause, lines)
    for site, least in (("site-1", 25), ("site-2", 10)):
        for name in ("rows", "moments.count", "parts.count"):
            (line,) = [it for it in lines if f"{site} {name} " in it]
            counts = json.loads(line[line.index("[") :])
            assert all(count == -1 or count >= least for count in counts), line
            assert name == "parts.count" or -1 in counts


def test_what_leaves_is_looked_at_once_more(tmp_path):
    """An answer of Convoy's own trainer from before the policy became stricter is refused."""
    handed, question = _answer(tmp_path, "statistics", [100, 12, -1])
    assert Release(None, policy(tmp_path, "")).answer(handed, question).digest == handed.up.answer.digest
    stricter = policy(tmp_path, 'tables: {"pat*": {minimum_count: 13}}')
    with pytest.raises(Refused, match=r"'rows' has a cell over fewer than 13 rows: policy.yaml:1"):
        Release(None, stricter).answer(handed, question)
