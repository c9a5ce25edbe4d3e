"""Counters and histograms: exact counts, a bounded number of series, and a format that Prometheus' own parser reads."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from convoy.wire.health import Metric, exposition
from convoy.wire.measures import MOST, OTHER, Counter, Histogram


def parsed(metrics):
    families = text_string_to_metric_families(exposition(metrics).decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_each_bucket_counts_the_values_up_to_its_bound(values):
    made = Histogram("convoy_x_seconds", "X.", bounds=(0.1, 1, 10))
    for value in values:
        made.add(value)
    found = parsed(made.metrics())
    for bound in (0.1, 1.0, 10.0) if values else ():
        assert found["convoy_x_seconds_bucket", ("le", str(bound))] == sum(value <= bound for value in values)
    if values:
        assert found["convoy_x_seconds_bucket", ("le", "+Inf")] == found["convoy_x_seconds_count",] == len(values)
        assert found["convoy_x_seconds_sum",] == sum(values)


def test_what_comes_after_the_last_series_is_counted_together():
    counter, histogram = Counter("convoy_y_total", "Y.", ("a",)), Histogram("convoy_z_seconds", "Z.", ("a", "b"))
    for number in range(MOST + 7):
        counter.add(str(number))
        histogram.add(1.0, str(number), "b")
    found = [one for one in counter.metrics() if dict(one.labels)["a"] == OTHER]
    assert [one.value for one in found] == [7]
    assert len([*counter.metrics()]) == MOST + 1
    (other,) = [one for one in histogram.metrics() if dict(one.labels)["a"] == OTHER]
    assert other.buckets[-1] == ("+Inf", 7)


def test_a_counter_without_labels_begins_at_0():
    assert parsed(Counter("convoy_y_total", "Y.").metrics())["convoy_y_total",] == 0


def test_a_hostile_label_stays_a_label():
    name = 'x"} 1\nforged 2\\'
    found = parsed([Metric("convoy_job_round", "R.", 3, labels=(("job_name", name),))])
    assert found["convoy_job_round", ("job_name", name)] == 3
    assert not [key for key in found if key[0] == "forged"]
