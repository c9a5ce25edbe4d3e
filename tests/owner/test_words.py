"""The policy in words: each key says something, at its line, and says the opposite when it is the opposite."""

import re

import pytest

from convoy.owner import words
from convoy.spec.policy import KEYS, Policy, read_policy


def said(tmp_path, text):
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return words.sections(read_policy(file), "site-1", "clinic-a")


def sentences(found):
    return [it for section in found for it in section.sentences]


def test_the_defaults_are_said_and_marked(tmp_path):
    found = sentences(said(tmp_path, ""))
    assert all(it.place == "" for it in found)
    text = " ".join(it.text for it in found)
    for part in (
        "Everybody of the organisation clinic-a may run code here.",
        "Everybody with the role project_admin, of any organisation, may run code here.",
        "What the code of a job prints leaves",
        "artifacts/ stay here",
        "up to 16 MiB",
        "at least 10 rows",
        "Nothing: answers leave as the code of the job made them.",
    ):
        assert part in text
    assert "inf" not in text


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("run: []", "Nobody may run code here"),
        ("run: [{person: bo@b.org, role: lead}]", "bo@b.org, with the role lead may run code here."),
        ("run: [{org: clinic-b}]", "Everybody of the organisation clinic-b may run code here."),
        ("workflows: [fedavg]", "only with these workflows: fedavg"),
        ("workflows: []", "no job is taken"),
        ("images: ['r/x@*']", "one of these images for its pod: r/x@*"),
        ("limits: {cpu: 4}", "at most 4 processor cores"),
        ("limits: {memory: 8Gi}", "at most 8 GiB of memory"),
        ("limits: {gpu: 0}", "at most 0 GPUs"),
        ("limits: {state: 1Gi}", "keep at most 1 GiB at this site"),
        ("leave: {logs: false}", "prints stays here"),
        ("leave: {metrics: false}", "The metrics of answers stay here"),
        ("leave: {live: false}", "while a task runs stay here"),
        ("leave: {live: {keys: [loss], per_hour: 60, digits: 2}}", "only these keys: loss; at most 60 values"),
        ("leave: {artifacts: 50Mi}", "up to 50 MiB for each job"),
        ("leave: {weight: fixed}", "with the weight 1"),
        ("leave: {weight: rounded}", "rounded to one digit"),
        ("leave: {values: false}", "beside its arrays stay here"),
        ("leave: {resources: false}", "What a task took stays here"),
        ("leave: {arrays: 1Mi}", "leave up to 1 MiB for each answer"),
        ("filters: [{clip: {norm: 1.5}}]", "at most 1.5."),
        ("filters: [{noise: {sigma: 0.1, kinds: [train]}}]", "0.1 is added to every number. This holds for"),
        ("filters: [{exclude: ['head.*']}]", "model had: head.*."),
        ("tables: {patients: {minimum_count: 20, digits: 3, extremes: true, only: analytics}}", "at least 20 rows."),
        ("isolation: [files]", "isolate them from its files"),
    ],
)
def test_each_key_is_said_at_its_line(tmp_path, line, part):
    found = [it for it in sentences(said(tmp_path, f"# a comment\n\n{line}\n")) if part in it.text]
    assert [it.place for it in found] == ["policy.yaml:3"]


def test_no_key_of_the_policy_is_forgotten(tmp_path):
    changed = {
        "run": "[]",
        "workflows": "[x]",
        "images": "[x]",
        "limits": "{cpu: 1}",
        "leave": "{logs: false}",
        "filters": "[{clip: {norm: 1}}]",
        "tables": "{x: {digits: 3}}",
        "isolation": "[files]",
    }
    assert changed.keys() == KEYS.keys()
    before = sentences(words.sections(Policy(), "site-1", "clinic-a"))
    for key, value in changed.items():
        assert sentences(said(tmp_path, f"{key}: {value}\n")) != before, key


def test_the_rules_of_a_table_say_who_reads_it(tmp_path):
    found = sentences(said(tmp_path, "tables: {p: {only: statistics}, q: {}}\n"))
    text = {it.text.partition(":")[0]: it.text for it in found}
    assert "No code of a job is given the table" in text["p"]
    assert "The code of jobs may read the table." in text["q"]
    assert "Every other table" in text


def test_sentences_are_sentences(tmp_path):
    for it in sentences(said(tmp_path, "limits: {cpu: 2}\nleave: {logs: false}\n")):
        assert re.fullmatch(r"[A-Z].*\.", it.text), it.text
