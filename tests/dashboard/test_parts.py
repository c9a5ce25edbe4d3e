"""What the pages are made of: the look of values, the strips of an hour, the libraries of others, the templates."""

import hashlib
import re
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from convoy.dashboard import rendering, vendored
from convoy.dashboard.strips import MAX_CHANGES, MAX_COUNTS, SPAN_S, Counts, Hour

ASSETS, TEMPLATES = rendering.ASSETS, rendering.FOLDER / "templates"


@pytest.mark.parametrize("library", vendored.ALL, ids=lambda it: it.name)
def test_the_libraries_of_others_are_unchanged_and_have_their_licences(library):
    for name, digest in library.digests.items():
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest
        assert library.version in name
    words = {"0BSD": "Permission to use, copy, modify, and/or distribute", "MIT": "Permission is hereby granted"}
    assert words[library.licence] in " ".join((ASSETS / "vendor" / library.file(".LICENSE.txt")).read_text().split())


def test_no_library_is_without_its_row():
    files = {file.name for file in (ASSETS / "vendor").iterdir()}
    assert files == {name for library in vendored.ALL for name in library.digests}


def test_nothing_of_ours_asks_another_host():
    for file in [*TEMPLATES.rglob("*.html"), ASSETS / "convoy.css", *ASSETS.glob("*.js")]:
        assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", file.read_text()) == [], file


def test_no_template_switches_the_escaping_off():
    for file in TEMPLATES.rglob("*.html"):
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", file.read_text()), file
        assert not re.search(r"\s[\w-]+=\{\{", file.read_text()), f"{file}: an attribute without quotes"


def test_the_templates_can_be_compiled():
    made = rendering.build(()).environment
    for name in made.list_templates():
        made.get_template(name)
    with pytest.raises(jinja2.UndefinedError):
        made.from_string("{{ nowhere }}").render()


def test_a_value_is_escaped_and_its_control_characters_are_shown():
    made = rendering.build(()).environment
    shown = made.from_string('<p title="{{ it }}">{{ it }}</p>').render(it="\"<b>&'\u202e\n\x1b")
    assert shown == '<p title="{0}">{0}</p>'.format("&#34;&lt;b&gt;&amp;&#39;\\u202e\\n\\x1b")
    assert made.from_string("{{ it | lines }}").render(it="a\n<b>\x1b") == "a\n&lt;b&gt;\\x1b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (15 << 20, "15 MiB"),
        (3 << 40, "3.0 TiB"),
        (1 << 63, "8388608 TiB"),
    ],
)
def test_sizes(value, shown):
    assert rendering.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(-3, "0 s"), (59, "59 s"), (90, "1.5 min"), (36000, "10 h"), (1e6, "12 d"), (9e4, "1.0 d")]
)
def test_durations(value, shown):
    assert rendering.span(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (float("nan"), "-"),
        (float("inf"), "∞"),
        (float("-inf"), "-∞"),
        (3.0, "3"),
        (1e-9, "1e-09"),
    ],
)
def test_numbers(value, shown):
    assert rendering.number(value) == shown


def test_times():
    assert rendering.ago(0) == "never"
    assert rendering.clock(0) == "-"
    assert re.fullmatch(
        r'<time datetime="1970-01-01T00:01:40\+00:00" title="[^"<]+">[\d,]+ d ago</time>', rendering.ago(100)
    )
    assert isinstance(rendering.ago(1e11), Markup)


def test_a_strip_is_what_was_seen_in_the_last_hour():
    hour = Hour()
    hour.note(0, {"a": "connected", "b": "away"})
    hour.note(1800, {"a": "away", "b": "away"})
    hour.lose(2700)
    (first, second, third) = hour.strip("a", 3600)
    assert [(it.standing, it.start, it.width) for it in (first, second, third)] == [
        ("connected", 0.0, 500.0),
        ("away", 500.0, 250.0),
        ("unknown", 750.0, 250.0),
    ]
    hour.note(9000, {"a": "connected"})
    assert [it.standing for it in hour.strip("a", 9000)] == ["unknown", "connected"]
    assert hour.strip("b", 9000) == []
    assert hour.presence.changes.keys() == {"a"}


def test_a_strip_is_what_the_server_remembers_and_unknown_before_it():
    hour = Hour()
    hour.learn(900, [("a", [(900, "away"), (1800, "connected")]), ("b", [])])
    hour.note(3600, {"a": "connected"})
    assert [(it.standing, it.start, it.width) for it in hour.strip("a", 3600)] == [
        ("unknown", 0.0, 250.0),
        ("away", 250.0, 250.0),
        ("connected", 500.0, 500.0),
    ]
    assert hour.strip("b", 3600) == []


def test_a_short_absence_is_drawn_and_the_connection_that_follows_it_does_not_hide_it():
    hour = Hour()
    hour.note(0, {"a": "connected"})
    hour.note(1800, {"a": "away"})
    hour.note(1802, {"a": "connected"})
    hour.note(3599, {"a": "away"})
    assert [(it.standing, it.start, it.width) for it in hour.strip("a", 3600)] == [
        ("connected", 0.0, 500.0),
        ("away", 500.0, 6.0),
        ("connected", 506.0, 493.7),
        ("away", 994.0, 6.0),
    ]


def test_what_was_seen_before_the_server_began_stays_and_gaps_are_filled_from_it():
    hour = Hour()
    hour.note(0, {"a": "connected", "b": "connected"})
    hour.lose(1800)  # the server goes down, and another one knows nothing of before
    hour.learn(1900, [("a", [(1900, "away"), (2000, "connected")])])
    assert [it.standing for it in hour.strip("a", 3600)] == ["connected", "unknown", "away", "connected"]
    hour.lose(2500)  # the network goes down, and the same server has seen what happened meanwhile
    hour.learn(1900, [("a", [(1900, "away"), (2000, "connected"), (2600, "away")])])
    assert [it.standing for it in hour.strip("a", 3600)] == ["connected", "unknown", "away", "connected", "away"]
    assert [it.standing for it in hour.strip("b", 3600)] == ["connected", "unknown"]


def test_what_is_remembered_is_bounded():
    hour = Hour()
    for at in range(2000):
        hour.note(at / 10, {"a": "connected" if at % 2 else "away"})
        hour.count(Counts(at * 10, 1, 1, 1))
    assert len(hour.presence.changes["a"]) == MAX_CHANGES
    assert len(hour.counts) == SPAN_S / 10 + 1
    assert all(it.start >= 0 and it.start + it.width <= 1000.1 for it in hour.strip("a", 200))


def test_an_hour_of_counts_fits_however_often_they_come():
    hour = Hour()
    for at in range(8000):
        hour.count(Counts(at, at % 3, 1, 1))
    assert len(hour.counts) <= MAX_COUNTS
    assert hour.counts[0].at <= 7999 - SPAN_S + 10
    assert hour.counts[-1] == Counts(7999, 7999 % 3, 1, 1)


def colours(text, block):
    return dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", text[text.index(block) :].split("}")[0]))


def light(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("block", [":root {", ':root[data-theme="auto"] {', ':root[data-theme="dark"] {'])
def test_every_pair_of_colours_can_be_read(block):
    found = colours((ASSETS / "convoy.css").read_text(), block)
    pairs = [(text, back) for text in ("--text", "--faint", "--link") for back in ("--page", "--card")]
    pairs += [("--text", "--raised"), ("--faint", "--raised"), ("--text", "--bad-back"), ("--text", "--good-back")]
    pairs += [(f"--{it}", f"--{it}-back") for it in ("good", "busy", "warn", "bad", "idle")] + [("--bad", "--card")]
    for text, back in pairs:
        darker, lighter = sorted((light(found[text]), light(found[back])))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, back)


def test_both_ways_to_dark_have_the_same_colours():
    text = (Path(ASSETS) / "convoy.css").read_text()
    assert colours(text, ':root[data-theme="auto"] {') == colours(text, ':root[data-theme="dark"] {')
    assert colours(text, ":root {").keys() == colours(text, ':root[data-theme="dark"] {').keys()
