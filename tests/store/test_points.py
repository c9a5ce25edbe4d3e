"""A file of points: bounded, and whole after a crash."""

from hypothesis import given, settings
from hypothesis import strategies as st

from convoy.control import points
from convoy.control.points import Point
from convoy.store.points import PIECE, PointsFile, PointsFiles, Reader, read


def numbers(file, number=0):
    """Return the numbers of the lines that a reader gives."""
    reader, found = Reader(file, number), []
    while data := reader.piece():
        found += [point.number for point in read(data)]
    return found


def test_half_of_a_line_that_a_crash_left_is_cut_off_and_numbers_go_on(tmp_path):
    file = PointsFile(tmp_path / "a.jsonl")
    for value in (1.0, 2.0, 3.0):
        assert file.add(Point({"loss": value}))
    with file.path.open("ab") as torn:
        torn.write(b'{"n":3,"at":1.0')
    again = PointsFile(file.path)
    assert again.next == 3
    again.add(Point({"loss": 4.0}))
    assert numbers(again) == [0, 1, 2, 3]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_a_file_stays_within_its_bound_and_a_reader_gets_no_line_twice(tmp_path_factory, batches):
    file = PointsFile(tmp_path_factory.mktemp("points") / "a.jsonl", most=4000)
    reader, found = Reader(file), []
    for count in batches:
        for _ in range(count):
            file.add(Point({"loss": 0.5, "accuracy": 0.25}))
            assert file.size == file.path.stat().st_size <= 4000
        found += [point.number for point in read(reader.piece())]
    assert found == sorted(set(found))
    assert found[-1] == file.next - 1 == sum(batches) - 1
    assert PointsFile(file.path).next == file.next


def test_the_longest_line_fits_into_what_is_read_at_once(tmp_path):
    longest = {chr(0x1F600 + n) * points.MAX_KEY: -1.7976931348623157e308 for n in range(points.MAX_VALUES - 51)}
    longest |= {chr(0x1F680 + n) * points.MAX_KEY: -1.7976931348623157e308 for n in range(51)}
    point = Point(longest, points.MAX_STEP, "evaluate", 2**31, 99999999999.999, 10**14)
    assert len(longest) == points.MAX_VALUES
    assert points.problem(point) == ""
    assert points.are_lines(points.write(point))
    file = PointsFile(tmp_path / "a.jsonl")
    file.add(point)
    assert len(points.write(point)) <= PIECE
    assert numbers(file) == [0]


def test_a_disk_without_room_loses_points_and_nothing_else(tmp_path):
    files = PointsFiles(tmp_path)
    file = files.of("site-1")
    file.add(Point({"loss": 1.0}))
    file.path.unlink()
    file.path.mkdir()  # what is written fails
    assert not file.append(points.write(Point({"loss": 1.0}, number=1)))
    assert file.next == 1


def test_values_are_chosen_by_a_pattern_of_their_keys():
    line = points.write(Point({"val_loss": 1.0, "loss": 2.0, "Loss": 3.0}))
    assert [dict(point.values) for point in read(line, "*loss")] == [{"val_loss": 1.0, "loss": 2.0}]
    assert read(line, "accuracy") == []
