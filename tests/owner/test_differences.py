"""Files of a bundle as they are shown: numbered, bounded, and compared with an earlier bundle."""

from convoy.owner import differences
from convoy.owner.differences import shown


def files(**texts):
    return {name: memoryview(text if isinstance(text, bytes) else text.encode()) for name, text in texts.items()}


def test_lines_have_their_numbers():
    (file,) = shown(files(a="one\ntwo\n"))
    assert [(it.new, it.text) for it in file.lines] == [(1, "one"), (2, "two")]
    assert (file.change, file.size) == ("", 8)


def test_what_changed_is_marked_with_the_numbers_before_and_now():
    before = files(kept="k\n", changed="\n".join(map(str, range(30))), gone="g\n")
    now = files(kept="k\n", changed="\n".join([*map(str, range(20)), "new", *map(str, range(21, 30))]), more="m\n")
    found = {it.name: it for it in shown(now, before)}
    assert {name: it.change for name, it in found.items()} == {
        "kept": "same",
        "changed": "changed",
        "more": "new",
        "gone": "removed",
    }
    marked = [(it.mark, it.old, it.new, it.text) for it in found["changed"].changes if it.mark != "same"]
    assert marked == [("removed", 21, 0, "20"), ("added", 0, 21, "new")]
    assert len(found["changed"].changes) == 2 + 2 * differences.CONTEXT


def test_what_is_not_shown_is_said():
    large = "x\n" * differences.MAX_FILE
    wide = "y" * 10_000
    long = "z\n" * (differences.MAX_LINES + 1)
    found = {it.name: it for it in shown(files(binary=b"\0\1", latin=b"\xff", large=large, wide=wide, long=long))}
    assert found["binary"].why == found["latin"].why == "It is not text."
    assert "longer than what is shown of one file" in found["large"].why
    assert "Lines are cut" in found["wide"].why
    assert len(found["wide"].lines[0].text) == differences.MAX_WIDTH
    assert "Only its first" in found["long"].why
    assert len(found["long"].lines) == differences.MAX_LINES
    assert not found["large"].lines


def test_a_bundle_of_many_files_is_shown_up_to_a_bound():
    many = {f"{number:04}": memoryview(b"x" * 200_000) for number in range(30)}
    found = shown(many)
    assert sum(it.size for it in found if it.lines) <= differences.MAX_SHOWN
    assert "all files together" in found[-1].why


def test_files_that_are_slow_to_compare_are_bounded_in_number():
    lines = [str(number % 90) for number in range(differences.MAX_COMPARED - 1)]
    before = {f"{n:03}": memoryview("\n".join(lines).encode()) for n in range(20)}
    now = {name: memoryview("\n".join(reversed(lines)).encode()) for name in before}
    found = shown(now, before)
    assert 0 < sum(1 for it in found if it.changes) <= differences.MAX_WORK // (differences.MAX_COMPARED - 1) + 1
    assert all(it.lines for it in found)


def test_a_file_that_was_no_text_before_is_shown_whole():
    (file,) = shown(files(a="text\n"), files(a=b"\0"))
    assert (file.change, file.changes) == ("changed", ())
    assert "was not text" in file.why
    assert file.lines
