"""A site's policy as sentences, each with the line of policy.yaml that says so, or marked as a default; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from convoy.spec.filters import Clip, Exclude, Filter, Noise, Quantize
from convoy.spec.policy import ISOLATED, OWN, Live, Policy, Rule
from convoy.spec.tables import ANALYTICS, TableRules


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence; `place` is `policy.yaml:LINE`, empty for a default."""

    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What the policy says about one subject."""

    title: str
    sentences: tuple[Sentence, ...]


def sections(policy: Policy, site: str, org: str) -> list[Section]:
    """Return the whole policy in words; `org` is the organisation of the site."""
    made = (
        ("Who may run code here", _run(policy, org)),
        ("Which jobs are taken", _jobs(policy, site)),
        ("What may leave", _leave(policy)),
        ("What is done to answers before they leave", _filters(policy)),
        ("Tables", _tables(policy)),
        ("Isolation", _isolation(policy)),
    )
    return [Section(title, tuple(said)) for title, said in made]


def _run(policy: Policy, org: str) -> Iterator[Sentence]:
    place = policy.places.get("run", "")
    if not policy.run:
        yield Sentence("Nobody may run code here, unless the owner approves the bundle.", place)
    for number, rule in enumerate(policy.run):
        yield Sentence(f"{_who(rule, org)} may run code here.", policy.places.get(f"run.{number}", place))
    yield Sentence("A bundle that the owner has approved may run, whoever submitted it.")


def _who(rule: Rule, org: str) -> str:
    home = org if rule.org == OWN else rule.org
    if rule.person:
        parts = [rule.person]
        parts += [f"with the role {rule.role}"] if rule.role else []
        parts += [f"of the organisation {home}"] if rule.org else []
        return ", ".join(parts)
    whom = f"Everybody with the role {rule.role}" if rule.role else "Everybody"
    return f"{whom} of the organisation {home}" if rule.org else f"{whom}, of any organisation,"


def _jobs(policy: Policy, site: str) -> Iterator[Sentence]:
    place = policy.places.get
    if policy.workflows is None:
        yield Sentence("Jobs with any workflow are taken.")
    else:
        listed = _list(policy.workflows) or "none, so no job is taken"
        yield Sentence(f"Jobs are taken only with these workflows: {listed}.", place("workflows", ""))
    if policy.images:
        yield Sentence(f"A job may name one of these images for its pod: {_list(policy.images)}.", place("images", ""))
    else:
        yield Sentence(
            f"Every job runs in the environment of {site} itself: no job may name an image.", place("images", "")
        )
    limits = policy.limits
    for name, what, value in (
        ("cpu", "processor cores", f"{limits.cpu:g}"),
        ("memory", "memory", _size(limits.memory)),
        ("gpu", "GPUs", f"{limits.gpu:g}"),
    ):
        if math.isinf(getattr(limits, name)):
            yield Sentence(f"A job may ask for all {what} that the site offers.")
        else:
            yield Sentence(
                f"One job may ask for at most {value} of {what}."
                if name == "memory"
                else f"One job may ask for at most {value} {what}.",
                place(f"limits.{name}", ""),
            )
    if math.isinf(limits.state):
        yield Sentence("What a job keeps at this site between its tasks is limited only by the free disk.")
    else:
        yield Sentence(
            f"A job may keep at most {_size(limits.state)} at this site between its tasks.", place("limits.state", "")
        )


def _leave(policy: Policy) -> Iterator[Sentence]:
    leave = policy.leave

    def said(key: str, yes: bool, leaves: str, stays: str) -> Sentence:
        return Sentence(leaves if yes else stays, policy.places.get(f"leave.{key}", ""))

    yield Sentence("The trained arrays of each answer leave: that is what a job is for.")
    yield said(
        "logs",
        leave.logs,
        "What the code of a job prints leaves, and so do its error messages. Code that reads data can print it.",
        "What the code of a job prints stays here. Of an error, only one of a few fixed sentences leaves.",
    )
    yield said(
        "metrics",
        leave.metrics,
        "The metrics of answers leave, with their names.",
        "The metrics of answers stay here, and so do live metrics and resources.",
    )
    yield _live(policy, leave.live if leave.metrics else None)
    yield said(
        "values",
        leave.values,
        "Text and JSON that code returns beside its arrays leave, up to 64 KiB for each answer.",
        "Text and JSON that code returns beside its arrays stay here.",
    )
    weights = {
        "exact": "The weight of an answer, often the number of examples, leaves as it is.",
        "rounded": "The weight of an answer, often the number of examples, leaves rounded to one digit.",
        "fixed": "Every answer leaves with the weight 1, so the number of examples stays here.",
    }
    yield Sentence(weights[leave.weight], policy.places.get("leave.weight", ""))
    yield said(
        "resources",
        leave.resources_leave,
        "What a task took leaves with two digits: seconds, processor, memory, energy.",
        "What a task took stays here: seconds, processor, memory, energy.",
    )
    yield said(
        "artifacts",
        bool(leave.artifacts),
        f"Files that a job writes into artifacts/ leave, up to {_size(leave.artifacts)} for each job. "
        "No filter sees them.",
        "Files that a job writes into artifacts/ stay here.",
    )
    size = _size(leave.arrays)
    yield said("arrays", True, f"Arrays that are not shaped like the model leave up to {size} for each answer.", "")


def _live(policy: Policy, live: Live | None) -> Sentence:
    place = policy.places.get("leave.live", "")
    if live is None:
        return Sentence(
            "Metrics that code reports while a task runs stay here.", place or policy.places.get("leave.metrics", "")
        )
    which = "all keys" if live.keys == ("*",) else f"only these keys: {_list(live.keys)}"
    return Sentence(
        f"Metrics that code reports while a task runs leave: {which}; at most {live.per_hour:,} values of one job in "
        f"an hour; rounded to {live.digits} significant digits.",
        place,
    )


def _filters(policy: Policy) -> Iterator[Sentence]:
    if not policy.filters:
        yield Sentence("Nothing: answers leave as the code of the job made them.", policy.places.get("filters", ""))
    for number, one in enumerate(policy.filters):
        kinds = f" This holds for answers to these questions only: {_list(one.kinds)}." if one.kinds else ""
        yield Sentence(
            f"{_filter(one)}{kinds}", policy.places.get(f"filters.{number}", policy.places.get("filters", ""))
        )


def _filter(one: Filter) -> str:
    match one:
        case Exclude():
            return f"These tensors stay here, and leave with the values that the model had: {_list(one.tensors)}."
        case Clip():
            return f"The change of the model is shortened to a length (L2 norm) of at most {one.norm:g}."
        case Noise():
            return f"Gaussian noise with the standard deviation {one.sigma:g} is added to every number."
        case Quantize():
            return f"The change of the model leaves with {one.bits} bits for each number, which makes it smaller."
        case _:
            assert_never(one)


def _tables(policy: Policy) -> Iterator[Sentence]:
    for pattern, rules in policy.tables:
        yield Sentence(
            f"{pattern}: {rules_text(rules)}", policy.places.get(f"tables.{pattern}", policy.places.get("tables", ""))
        )
    other = "Every other table" if policy.tables else "Every table"
    yield Sentence(f"{other}: {rules_text(TableRules())}")


def rules_text(rules: TableRules) -> str:
    """Return the rules for a table as sentences."""
    said = [f"A statistic leaves only if it is over at least {rules.minimum_count:,} rows."]
    said.append(
        f"Numbers are rounded to {rules.digits} significant digits." if rules.digits else "Numbers are not rounded."
    )
    said.append("Minimum and maximum leave." if rules.extremes else "Minimum and maximum stay here.")
    if not rules.only:
        said.append("The code of jobs may read the table.")
    else:
        which = "statistics and fits" if rules.only == ANALYTICS else "statistics"
        said.append(f"No code of a job is given the table; only Convoy's own {which} read it.")
    return " ".join(said)


def _isolation(policy: Policy) -> Iterator[Sentence]:
    place = policy.places.get("isolation", "")
    for part in policy.isolation:
        yield Sentence(f"Jobs are taken only if this machine can isolate them from its {part}.", place)
    rest = [part for part in ISOLATED if part not in policy.isolation]
    if rest:
        yield Sentence(
            f"Jobs are isolated from {_list(rest)} as far as this machine can.", place if not policy.isolation else ""
        )


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:g} {unit}"
        count /= 1024
    return f"{count:g} GiB"
