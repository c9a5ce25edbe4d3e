"""policy.yaml: rules, limits, filters, and nothing that is not one."""

import os
import time

import pytest

from convoy.errors import BadInput
from convoy.provision import sample
from convoy.spec.filters import Clip, Exclude, Noise, Quantize
from convoy.spec.policy import Leave, Limits, Live, Policy, PolicyFile, Rule, read_policy
from convoy.spec.tables import TableRules, rules_of


def policy(tmp_path, text: str) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return read_policy(file)


def test_filters_keep_their_order(tmp_path):
    text = 'filters:\n  - exclude: ["head.*"]\n  - clip: {norm: 1}\n  - noise: {sigma: 0.01, kinds: [train]}\n'
    assert policy(tmp_path, text).filters == (Exclude(("head.*",)), Clip(1.0), Noise(0.01, ("train",)))


def test_quantize_is_the_last_filter_of_an_answer(tmp_path):
    one = "filters: [{clip: {norm: 1}}, {quantize: {bits: 8, kinds: [train]}}, %s]\n"
    found = policy(tmp_path, one % "{quantize: {bits: 16, kinds: [probe]}}").filters
    assert found == (Clip(1.0), Quantize(8, ("train",)), Quantize(16, ("probe",)))
    for other in ("{noise: {sigma: 1}}", "{quantize: {bits: 16}}", "{clip: {norm: 1, kinds: [probe, train]}}"):
        with pytest.raises(BadInput, match="stands after quantize") as caught:
            policy(tmp_path, one % other)
        assert "policy.yaml:1:" in caught.value.where


def test_a_filter_of_tensors_may_be_for_some_kinds_of_questions(tmp_path):
    text = "filters:\n  - exclude: {tensors: [a, b], kinds: [train, probe]}\n"
    assert policy(tmp_path, text).filters == (Exclude(("a", "b"), ("train", "probe")),)


def test_values_and_arrays_leave_within_limits_and_state_has_one(tmp_path):
    found = policy(tmp_path, "leave: {values: false, arrays: 64Ki}\nlimits: {state: 1Mi}\n")
    assert (found.leave.values, found.leave.arrays, found.limits.state) == (False, 65_536, 1 << 20)
    for wrong in ("leave: {values: 1}\n", "leave: {arrays: many}\n", "limits: {state: -1}\n"):
        with pytest.raises(BadInput, match="wanted"):
            policy(tmp_path, wrong)


def test_an_empty_list_filters_nothing(tmp_path):
    assert policy(tmp_path, "filters: []\n").filters == ()
    assert policy(tmp_path, "# nothing\n").filters == ()


def test_a_site_without_its_policy_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ("- clp: {norm: 1.0}", 'unknown key "clp"'),
        ("- clip: {norm: -1}", "wanted {norm"),
        ("- clip: {norm: 1, more: 2}", "wanted {norm"),
        ("- clip: 1", "wanted {norm"),
        ("- clip: {norm: 1, kinds: train}", "wanted {norm"),
        ("- clip: {norm: 1, kinds: []}", "wanted {norm"),
        ("- noise: {sigma: true}", "wanted {sigma"),
        ("- quantize: {bits: 4}", "wanted {bits: 8} or {bits: 16}"),
        ("- quantize: {bits: 8.0}", "wanted {bits: 8} or {bits: 16}"),
        ("- quantize: {bits: [8]}", "wanted {bits: 8} or {bits: 16}"),
        ("- quantize: 8", "wanted {bits: 8} or {bits: 16}"),
        ("- exclude: head", "wanted a list"),
        ("- exclude: []", "wanted a list"),
        ("- clip", "is not a filter"),
        ("- {clip: {norm: 1}, noise: {sigma: 1}}", "is not a filter"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_line(tmp_path, item, word):
    with pytest.raises(BadInput) as caught:
        policy(tmp_path, f"filters:\n  {item}\n")
    assert word in caught.value.what
    assert "policy.yaml:2:" in caught.value.where


def test_kinds_beside_a_filter_or_without_a_list_lead_to_the_right_place(tmp_path):
    for item in ("{clip: {norm: 1.0}, kinds: [train]}", "{clip: {norm: 1, kinds: train}}"):
        with pytest.raises(BadInput) as caught:
            policy(tmp_path, f"filters: [{item}]\n")
        assert "{norm: 1.0, kinds: [train]}" in caught.value.fix


def test_what_a_node_says_of_its_policy_does_not_say_where_the_file_lies(tmp_path):
    file = tmp_path / "policy.yaml"
    for text in ("filters: [{quantize: {bits: 4}}]\n", None):
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(BadInput, match=r"policy\.yaml") as caught:
            PolicyFile(file).now()
        assert str(tmp_path) not in str(caught.value)


def test_a_key_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(BadInput, match='unknown key "filter"'):
        policy(tmp_path, "filter: []\n")


def test_what_a_file_does_not_say_is_the_default(tmp_path):
    made = policy(tmp_path, "filters: []\n")
    assert made.run == (Rule(org="own"), Rule(role="project_admin"))
    assert (made.workflows, made.limits, made.leave) == (None, Limits(), Leave(logs=True, metrics=True))


def test_live_metrics_leave_by_patterns_of_keys_an_hourly_number_and_digits(tmp_path):
    found = policy(tmp_path, 'leave: {live: {keys: [loss, "val_*"], per_hour: 60, digits: 3}}\n').leave.live
    assert found == Live(("loss", "val_*"), 60, 3)
    assert [found.allows(key) for key in ("loss", "val_auc", "Loss", "patient 7")] == [True, True, False, False]
    assert [found.rounded(value) for value in (0.123456, -98765.0, 0.0)] == [0.123, -98800.0, 0.0]
    assert policy(tmp_path, "leave: {live: {digits: 2}}\n").leave.live == Live(digits=2)
    assert policy(tmp_path, "leave: {live: false}\n").leave.live is None
    assert policy(tmp_path, "leave: {live: true}\n").leave.live == Live()
    assert policy(tmp_path, "leave: {live: {keys: []}}\n").leave.live == Live(keys=())


@pytest.mark.parametrize(
    ("live", "word"),
    [
        ("3", "wanted true, false, or a mapping with keys, per_hour, digits"),
        ("{key: [a]}", 'unknown key "key"'),
        ("{keys: loss}", "wanted a list of patterns"),
        ("{keys: [1]}", "wanted a list of patterns"),
        ("{digits: 0}", "wanted a whole number from 1 to 17"),
        ("{digits: 1.5}", "wanted a whole number"),
        ("{per_hour: true}", "wanted a whole number"),
    ],
)
def test_what_is_no_rule_for_live_metrics_is_refused_with_its_line(tmp_path, live, word):
    with pytest.raises(BadInput) as caught:
        policy(tmp_path, f"leave:\n  live: {live}\n")
    assert word in caught.value.what
    assert "policy.yaml:2:" in caught.value.where


def test_the_rules_for_a_table_are_those_of_the_first_pattern_that_fits(tmp_path):
    text = "tables:\n  patients: {only: statistics, extremes: true}\n  'p*': {minimum_count: 3, digits: 2}\n"
    listed = policy(tmp_path, text).tables
    assert rules_of(listed, "patients") == TableRules(only="statistics", extremes=True)
    assert rules_of(listed, "people") == TableRules(minimum_count=3, digits=2)
    assert rules_of(listed, "visits") == TableRules() == TableRules(10, 0, extremes=False, only="")


def test_artifacts_leave_up_to_a_number_of_bytes(tmp_path):
    file = tmp_path / "policy.yaml"
    for text, size in (("50Mi", 50 << 20), ("0", 0), ("1000", 1000)):
        file.write_text(f"leave: {{artifacts: {text}}}\n")
        assert read_policy(file).leave.artifacts == size


def test_the_sample_says_the_defaults(tmp_path):
    made = policy(tmp_path, sample.POLICY)
    assert (made.run, made.workflows, made.limits, made.leave, made.filters) == (
        Policy().run,
        Policy().workflows,
        Policy().limits,
        Policy().leave,
        Policy().filters,
    )


def test_what_the_sample_shows_as_a_comment_is_read_too(tmp_path):
    shown = "\n".join(
        line.removeprefix("#" if line.startswith("#  -") else "# ")
        for line in sample.POLICY.splitlines()
        if line.startswith(("#  -", "# workflows: [", "# limits: {")) or not line.startswith("#")
    )
    made = policy(tmp_path, shown)
    assert made.run[2:] == (Rule(person="ada@clinic.org"), Rule(org="clinic-b", role="lead"))
    assert (made.workflows, made.limits) == (("fedavg",), Limits(cpu=4, memory=8 << 30, gpu=1, state=1 << 30))


def test_every_key_has_its_place(tmp_path):
    made = policy(tmp_path, "# a site\nrun: []\nlimits:\n  cpu: 2\n")
    assert made.places["run"] == "policy.yaml:2"
    assert made.places["limits.cpu"] == "policy.yaml:4"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("run:", '"run" is empty; wanted a list of rules'),
        ("run: all", '"run" is "all"; wanted a list'),
        ("run: [{}]", "is not a rule"),
        ("run: [own]", "is not a rule"),
        ("run: [{orgs: a}]", 'unknown key "orgs"'),
        ("run: [{role: boss}]", '"role" is "boss"; wanted project_admin, org_admin, lead, member'),
        ("run: [{person: bo}]", "wanted an e-mail address"),
        ("run: [{org: 7}]", '"org" is 7; wanted text'),
        ("run: [{org: ''}]", "wanted letters, digits"),
        ("workflows: fedavg", "wanted a list of names"),
        ("workflows: [7]", "wanted a list of names"),
        ("limits: [cpu]", "wanted a mapping with cpu, memory, gpu"),
        ("limits: {cpus: 1}", 'unknown key "cpus"'),
        ("limits: {cpu: many}", "wanted a number from 0 up"),
        ("limits: {cpu: true}", "wanted a number from 0 up"),
        ("limits: {gpu: -1}", "wanted a number from 0 up"),
        ("limits: {memory: lots}", "wanted a size"),
        ("leave: false", "wanted a mapping with logs, metrics"),
        ("leave: {logs: 'no'}", "wanted true or false"),
        ("leave: {artifacts: true}", "wanted a size such as 512Mi or 8Gi"),
        ("leave: {log: true}", 'unknown key "log"'),
        ("tables: [patients]", "wanted rules by the name of a table"),
        ("tables: {patients: statistics}", '"patients" is "statistics"; wanted a mapping with minimum_count'),
        ("tables: {patients: {minimum: 3}}", 'unknown key "minimum"'),
        ("tables: {patients: {minimum_count: 0}}", "wanted a whole number from 1 up"),
        ("tables: {patients: {digits: true}}", "wanted a whole number from 1 to 17"),
        ("tables: {patients: {extremes: 1}}", "wanted true or false"),
        ("tables: {patients: {only: averages}}", "wanted `statistics`, or `analytics`"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path, text, word):
    with pytest.raises(BadInput) as caught:
        policy(tmp_path, f"# a site\n{text}\n")
    assert word in caught.value.what
    assert "policy.yaml:2:" in caught.value.where


def test_a_policy_is_read_again_once_it_has_changed_and_not_before(tmp_path, monkeypatch):
    file, reads, now = tmp_path / "policy.yaml", [], [time.time()]
    file.write_text("limits: {cpu: 2}\n")
    monkeypatch.setattr(
        "convoy.spec.policy.read_policy", lambda path, name: (reads.append(path), read_policy(path, name))[1]
    )
    rules = PolicyFile(file, lambda: now[0])
    assert (rules.now().limits.cpu, rules.now().limits.cpu, len(reads)) == (2, 2, 2)  # it may be changing just now
    now[0] += 60
    assert ({rules.now().limits.cpu for _ in range(9)}, len(reads)) == ({2}, 3)
    file.write_text("limits: {cpu: 3}\n")  # of the same size
    os.utime(file, ns=(0, 0))
    assert rules.now().limits.cpu == 3
    file.write_text("limits: [\n")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"policy.yaml:\d"):
            rules.now()
    file.unlink()
    with pytest.raises(BadInput, match="does not exist"):
        rules.now()
    other = tmp_path / "other.yaml"
    other.write_text("limits: {cpu: 4}\n")
    file.symlink_to(other)  # as Kubernetes mounts a ConfigMap
    assert rules.now().limits.cpu == 4
