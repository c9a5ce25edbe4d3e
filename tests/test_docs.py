"""Documentation under test: the reference pages are the code's, YAML parses, commands exist, links lead somewhere."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from convoy.cli.main import app
from convoy.errors import BadInput
from convoy.flows.catalog import BUILT_IN
from convoy.spec.devices import Devices, Profile
from convoy.spec.job import read_job

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`convoy ([^`]+)`(?!`)")


def named(page):
    return page.relative_to(ROOT).as_posix()


def blocks(*languages):
    """Return (where, text) of every fenced block in one of these languages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        found += [
            (f"{named(page)}:{text.count(chr(10), 0, match.start()) + 2}", match[2])
            for match in BLOCK.finditer(text)
            if match[1] in languages
        ]
    return found


def without_blocks(page):
    return BLOCK.sub("", page.read_text())


def load(file):
    """Return a Python file as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_pages_are_what_the_code_says_now():
    wanted = load(ROOT / "docs" / "reference.py").pages()
    reference = ROOT / "docs" / "reference"
    found = {str(page.relative_to(reference)): page.read_text() for page in reference.glob("**/*.md")}
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == [], "the code has changed: make docs"


def test_each_workflow_has_the_picture_of_a_run_and_its_parameters_are_good():
    curves = load(ROOT / "docs" / "curves.py")
    assert {it.stem for it in curves.PICTURES.glob("*.png")} == set(curves.RUNS) == set(BUILT_IN), "make curves"
    for name, run in curves.RUNS.items():
        job = curves.job(name, run, run.job)
        assert not BUILT_IN[name].wrong(job["with"]), name


def test_the_index_of_examples_shows_each_with_its_picture():
    gallery = load(ROOT / "docs" / "gallery.py")
    assert (ROOT / "examples" / "README.md").read_text() == gallery.index(), "an example has changed: make gallery"
    for name, job in gallery.examples().items():
        told = gallery.readme(name).read_text()
        assert f"](../../docs/gallery/{name}.png)" in told
        assert f"convoy simulate {job.relative_to(ROOT)}" in told
    assert {it.stem for it in gallery.PICTURES.glob("*.png")} == set(gallery.examples())


@pytest.mark.parametrize(("where", "text"), [pytest.param(*it, id=it[0]) for it in blocks("yaml", "yml")])
def test_every_yaml_block_parses_and_a_whole_job_is_one(where, text):
    said = yaml.safe_load(text)
    assert said is not None
    if "trainer" in said:
        read_job(text, where)


def test_every_simulation_on_a_page_has_devices_that_there_are_and_every_key_of_theirs_is_described():
    stated = [yaml.safe_load(text) for _, text in blocks("yaml", "yml") if "\ndevices:" in text]
    assert [Devices.model_validate(one["devices"]).profiles.keys() for one in stated] == [{"phone", "desktop"}] * 2
    section = (ROOT / "docs" / "jobs.md").read_text().split("### Devices and virtual time\n")[1].split("\n###")[0]
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)))
    assert keys == [*Devices.model_fields, *Profile.model_fields]


@pytest.mark.parametrize(("where", "text"), [pytest.param(*it, id=it[0]) for it in blocks("python")])
def test_every_python_block_is_python(where, text):
    if "->" in text and "def " not in text:
        return  # a signature of the reference
    ast.parse(text, filename=where)


def typed(text):
    """Return the words of each `convoy …` line of a shell block; what follows a pipe is not ours."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.removeprefix("$ ").strip()  # noqa: PLW2901 - the prompt of a transcript
        if line.startswith("convoy "):
            yield shlex.split(line.split(" | ")[0].split(" > ")[0], comments=True)[1:]


def understood(words):
    """Return what click makes of a command line, without running it; raises `click.UsageError`."""
    command, context = app, click.Context(app, info_name="convoy")
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words[0]]
        name, *words = words
        context = command.make_context(name, [], parent=context) if isinstance(command, click.Group) else context
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        raise click.UsageError(f"there is no command {' '.join(words)!r}")
    return command.make_context("it", [word for word in words if word != "--help"], parent=context)


LINES = [
    pytest.param(words, id=f"{where} convoy {' '.join(words)}")
    for where, text in blocks("sh", "shell", "bash", "console")
    for words in typed(text)
]


@pytest.mark.parametrize("words", LINES)
def test_every_command_line_is_one_that_convoy_takes(words):
    understood(words)


@pytest.mark.parametrize(
    "line", ["job sumbit FOLDER", "job submit", "job submit FOLDER --wath", "up --port 3", "provison", "job list a b"]
)
def test_a_command_line_that_convoy_does_not_take_would_be_found(line):
    with pytest.raises(click.UsageError):
        understood(line.split())


def test_every_command_that_the_text_names_exists():
    wrong = []
    for page in PAGES:
        for match in INLINE.finditer(without_blocks(page)):
            command = app
            for word in match[1].replace("\\|", "|").split():
                if not isinstance(command, click.Group) or not word.isalpha() or not word.islower():
                    break
                if word not in command.commands:
                    wrong.append(f"{named(page)}: convoy {match[1]}")
                    break
                command = command.commands[word]
    assert wrong == []


def anchors(page):
    """Return the anchors that a page's headings get."""
    heads = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_between_pages_leads_to_a_page_and_to_a_heading_on_it():
    wrong = []
    for page in PAGES:
        for picture, target in LINK.findall(without_blocks(page)):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and not picture and anchor not in anchors(file)):
                wrong.append(f"{named(page)}: {target}")
    assert wrong == []


PROMISED = re.compile(r"`(tests/[^`]+\.py)::(test_\w+)`")


def test_each_promise_of_the_threat_model_names_a_test_that_is_there():
    page = (ROOT / "docs" / "threat-model.md").read_text()
    promises = page.split("## What we promise", 1)[1].split("## What we do not promise", 1)[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.startswith("| promise |")]
    assert [row for row in rows if not PROMISED.search(row)] == []
    named = PROMISED.findall(page)
    there = {file: (ROOT / file).read_text() if (ROOT / file).exists() else "" for file, _ in named}
    assert [(file, test) for file, test in named if f"def {test}(" not in there[file]] == []


def test_every_page_can_be_found_from_another_one():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for _, target in LINK.findall(without_blocks(page))
    }
    assert [named(page) for page in PAGES if page != ROOT / "README.md" and page not in linked] == []


def test_a_job_in_the_docs_that_is_none_would_be_found():
    with pytest.raises(BadInput):
        read_job("name: tumours\ntrainer: b\nrounds: 3\n", "page")
