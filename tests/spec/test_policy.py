"""policy.yaml: the filters, in order, and nothing that is not one."""

import pytest

from convoy.errors import BadInput
from convoy.spec.policy import Policy, read_policy


def policy(tmp_path, text: str) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return read_policy(file)


def test_filters_keep_their_order(tmp_path):
    text = 'filters:\n  - exclude: ["head.*"]\n  - clip: {norm: 1}\n  - noise: {sigma: 0.01}\n'
    assert policy(tmp_path, text).filters == (
        {"exclude": ["head.*"]},
        {"clip": {"norm": 1}},
        {"noise": {"sigma": 0.01}},
    )


def test_an_empty_list_filters_nothing(tmp_path):
    assert policy(tmp_path, "filters: []\n").filters == ()
    assert policy(tmp_path, "# nothing\n").filters == ()


def test_a_site_without_its_policy_is_refused(tmp_path):
    with pytest.raises(BadInput, match="there is no"):
        read_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize(
    ("item", "word"),
    [
        ("- clp: {norm: 1.0}", 'unknown key "clp"'),
        ("- clip: {norm: -1}", "wanted {norm"),
        ("- clip: {norm: 1, more: 2}", "wanted {norm"),
        ("- clip: 1", "wanted {norm"),
        ("- noise: {sigma: true}", "wanted {sigma"),
        ("- exclude: head", "wanted a list"),
        ("- exclude: []", "wanted a list"),
        ("- clip", "is no filter"),
        ("- {clip: {norm: 1}, noise: {sigma: 1}}", "is no filter"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_line(tmp_path, item, word):
    with pytest.raises(BadInput) as caught:
        policy(tmp_path, f"filters:\n  {item}\n")
    assert word in caught.value.what
    assert "policy.yaml:2:" in caught.value.where


def test_a_key_that_is_not_filters_is_refused(tmp_path):
    with pytest.raises(BadInput, match='unknown key "filter"'):
        policy(tmp_path, "filter: []\n")
