"""What holds for each partitioner whatever it is given: every row once, the same for a seed, sizes, labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convoy import partition

SEEDS = st.integers(0, 2**63)
LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=300)
SITES = st.integers(1, 12)

settings.register_profile("partition", deadline=None, max_examples=60)
settings.load_profile("partition")


def once(found, rows):
    """Every row is at exactly one site, each site's rows are sorted, and nobody can change them."""
    for one in found.rows:
        assert one.dtype == np.int64
        assert (np.diff(one) > 0).all()
        assert not one.flags.writeable
    np.testing.assert_array_equal(np.sort(np.concatenate(found.rows)), np.arange(rows))


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one.rows, other.rows))


def counts(found):
    return [len(rows) for rows in found.rows]


PARTITIONERS = {
    "iid": lambda y, n, seed: partition.iid(len(y), sites=n, seed=seed),
    "dirichlet": lambda y, n, seed: partition.dirichlet(y, sites=n, alpha=0.3, seed=seed),
    "dirichlet, equal": lambda y, n, seed: partition.dirichlet(y, sites=n, alpha=0.3, equal=True, seed=seed),
    "shards": lambda y, n, seed: partition.shards(y, sites=n, each=1, seed=seed),
    "sizes, dirichlet": lambda y, n, seed: partition.sizes(len(y), sites=n, law="dirichlet", alpha=0.5, seed=seed),
    "sizes, lognormal": lambda y, n, seed: partition.sizes(len(y), sites=n, law="lognormal", sigma=2, seed=seed),
    "sizes, power": lambda y, n, seed: partition.sizes(len(y), sites=n, law="power", exponent=1.5, seed=seed),
    "by time": lambda y, n, seed: partition.by_time(np.asarray(y) * 0.5, sites=n),
    "feature": lambda y, n, seed: partition.feature(np.asarray(y) * 0.5, sites=n, strength=0.4, seed=seed),
    "natural": lambda y, n, seed: partition.natural(y, sites=min(n, len(set(y))), seed=seed),
}


@pytest.mark.parametrize("law", PARTITIONERS.values(), ids=PARTITIONERS.keys())
@given(labels=LABELS, sites=SITES, seed=SEEDS)
def test_each_row_is_at_exactly_one_site_and_no_site_has_none_and_a_seed_decides(law, labels, sites, seed):
    found = law(labels, sites, seed)
    once(found, len(labels))
    assert min(counts(found)) >= 1
    np.random.default_rng()  # what others draw in between changes nothing
    assert same(found, law(labels, sites, seed))


@given(rows=st.integers(12, 300), sites=SITES, seed=SEEDS)
def test_iid_sites_differ_by_at_most_one_row(rows, sites, seed):
    sizes = counts(partition.iid(rows, sites=sites, seed=seed))
    assert max(sizes) - min(sizes) <= 1


@given(labels=LABELS, sites=SITES, seed=SEEDS, least=st.integers(0, 4), alpha=st.floats(1e-5, 1e5))
def test_a_dirichlet_partition_gives_each_site_its_least(labels, sites, seed, least, alpha):
    if least * sites > len(labels):
        return
    found = partition.dirichlet(labels, sites=sites, alpha=alpha, seed=seed, least=least)
    once(found, len(labels))
    assert min(counts(found)) >= least


@given(labels=LABELS, sites=SITES, seed=SEEDS, alpha=st.floats(1e-5, 1e5))
def test_with_equal_sizes_only_the_labels_differ(labels, sites, seed, alpha):
    sizes = counts(partition.dirichlet(labels, sites=sites, alpha=alpha, equal=True, seed=seed))
    assert max(sizes) - min(sizes) <= 1


@given(seed=SEEDS, sites=SITES, shape=st.lists(st.integers(100, 900), min_size=1, max_size=6), equal=st.booleans())
def test_a_large_alpha_gives_each_site_the_labels_of_all(seed, sites, shape, equal):
    labels = np.repeat(np.arange(len(shape)), shape)
    table = partition.dirichlet(labels, sites=sites, alpha=1e7, equal=equal, seed=seed).table()
    wanted = np.array(shape) / sum(shape)
    mixed = table.by_label / table.counts[:, None]
    drawn = 6 * sites * np.sqrt(0.25 / len(labels))  # most at the site that gets what the others left
    cut = 4 * len(shape) * sites / len(labels)  # a rounding of each label
    assert np.abs(mixed - wanted).max() <= (drawn if equal else cut)


def test_a_small_alpha_gives_each_label_to_few_sites():
    labels = np.repeat(np.arange(10), 1000)
    table = partition.dirichlet(labels, sites=10, alpha=0.01, least=0, seed=3).table()
    assert (table.by_label.max(axis=0) > 900).mean() > 0.7


def test_the_shares_of_a_label_follow_the_dirichlet_law():
    alpha, sites = 0.7, 5
    drawn = np.concatenate(
        [
            partition.dirichlet(np.zeros(2000, int), sites=sites, alpha=alpha, least=0, seed=seed).table().counts / 2000
            for seed in range(800)
        ]
    )
    mean = 1 / sites
    variance = mean * (1 - mean) / (alpha * sites + 1)
    assert drawn.mean() == pytest.approx(mean)
    assert drawn.var() == pytest.approx(variance, rel=0.1)


@given(labels=LABELS, sites=SITES, each=st.integers(1, 5), seed=SEEDS)
def test_each_site_has_as_many_labels_as_it_was_to_have(labels, sites, each, seed):
    known, sizes = np.unique(labels, return_counts=True)
    if each > len(known) or sites * each < len(known) or sizes.min() < sites:
        return
    found = partition.classes(labels, sites=sites, each=each, seed=seed)
    once(found, len(labels))
    held = found.table().by_label > 0
    assert held.sum(axis=1).tolist() == [each] * sites
    assert np.ptp(held.sum(axis=0)) <= 1
    assert same(found, partition.classes(labels, sites=sites, each=each, seed=seed))


@given(rows=st.integers(40, 300), sites=SITES, each=st.integers(1, 3), seed=SEEDS)
def test_shards_bring_few_labels(rows, sites, each, seed):
    labels = np.arange(rows) * 5 // rows  # a shard of less than a label has one or two of them
    found = partition.shards(labels, sites=sites, each=each, seed=seed)
    once(found, rows)
    widest = -(-rows // (sites * each))
    spans = 1 + -(-widest // (rows // 5))
    assert (found.table().by_label > 0).sum(axis=1).max() <= min(5, each * spans)
    assert max(counts(found)) - min(counts(found)) <= each


@given(seed=SEEDS, sites=SITES, exponent=st.floats(0.1, 3))
def test_the_sizes_of_a_power_law_fall_by_rank(seed, sites, exponent):
    sizes = np.array(counts(partition.sizes(100_000, sites=sites, law="power", exponent=exponent, seed=seed, least=0)))
    wanted = np.arange(1, sites + 1) ** -exponent
    assert np.abs(sizes - 100_000 * wanted / wanted.sum()).max() <= 1


@given(labels=st.lists(st.sampled_from("abc"), min_size=3, max_size=60), seed=SEEDS, data=st.data())
def test_a_given_table_of_counts_is_kept_exactly(labels, seed, data):
    names, sizes = np.unique(labels, return_counts=True)
    first = [data.draw(st.integers(0, int(size))) for size in sizes]
    rest = [int(size) - one for one, size in zip(first, sizes, strict=True)]
    table = partition.given(labels, [first, rest], seed=seed).table()
    assert table.by_label.tolist() == [first, rest]
    assert table.labels == tuple(names)


def test_shares_of_a_table_that_sum_to_less_leave_rows_out():
    found = partition.given([0] * 100 + [1] * 50, [[0.25, 0.0], [0.5, 1.0]])
    assert found.table().by_label.tolist() == [[25, 0], [50, 50]]
    assert len(np.unique(np.concatenate(found.rows))) == 125


@given(ids=st.lists(st.sampled_from(["ada", "bob", "eve"]), min_size=1, max_size=40))
def test_a_natural_site_has_all_rows_of_one_owner_and_no_others(ids):
    found = partition.natural(ids)
    once(found, len(ids))
    owners = [{ids[row] for row in rows} for rows in found.rows]
    assert owners == [{name} for name in sorted(set(ids))]


@given(ids=st.lists(st.integers(0, 20), min_size=1, max_size=90), seed=SEEDS, data=st.data())
def test_grouped_owners_stay_together(ids, seed, data):
    sites = data.draw(st.integers(1, len(set(ids))))
    found = partition.natural(ids, sites=sites, seed=seed)
    owners = [{ids[row] for row in rows} for rows in found.rows]
    assert sum(map(len, owners)) == len(set(ids))
    assert max(map(len, owners)) - min(map(len, owners)) <= 1


@given(times=st.lists(st.integers(0, 9), min_size=12, max_size=90), sites=SITES)
def test_no_site_begins_before_the_one_in_front_of_it_ends(times, sites):
    found = partition.by_time(np.array(times, dtype="datetime64[D]"), sites=sites)
    pairs = zip(found.rows, found.rows[1:], strict=False)
    assert all(max(times[row] for row in one) <= min(times[row] for row in after) for one, after in pairs)


def test_strength_leads_from_iid_to_sorted():
    values = np.random.default_rng(1).standard_normal(4000)
    spread = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        found = partition.feature(values, sites=8, strength=strength, seed=5)
        spread.append(np.std([values[rows].mean() for rows in found.rows]))
        assert np.ptp(counts(found)) == 0
    assert spread == sorted(spread)
    assert spread[0] < 0.1 < 0.9 < spread[-1]


def test_several_features_are_sorted_by_their_first_principal_component():
    chance = np.random.default_rng(2)
    long = chance.standard_normal(20_000) * 9
    values = np.stack([long + chance.standard_normal(20_000), 5 - long, chance.standard_normal(20_000)], axis=1)
    found = partition.feature(values, sites=4)
    means = [long[rows].mean() for rows in found.rows]
    assert means == sorted(means) or means == sorted(means, reverse=True)
    assert max(means) - min(means) > 15


@given(total=st.integers(12, 60), sites=SITES, seed=SEEDS)
def test_each_column_is_at_one_site_and_a_shared_one_at_all(total, sites, seed):
    found = partition.columns(total + 1, sites=sites, seed=seed, shared=[total])
    assert all(rows[-1] == total for rows in found.rows)
    np.testing.assert_array_equal(np.sort(np.concatenate([rows[:-1] for rows in found.rows])), np.arange(total))
    assert np.ptp(counts(found)) <= 1


def test_columns_have_names():
    found = partition.columns(["id", "age", "size", "grade"], sites=3, shared=["id"])
    assert found.axis == 1
    assert sorted(rows.tolist() for rows in found.rows) == [[0, 1], [0, 2], [0, 3]]


def test_labels_of_each_kind_give_the_same_rows():
    numbers = [0, 1, 1, 0, 1, 1, 0, 0, 1, 0]
    kinds = [
        numbers,
        np.array(numbers, np.uint8),
        np.array(numbers, float),
        np.array(numbers, bool),
        [f"label {one}" for one in numbers],
        np.array([f"label {one}" for one in numbers], dtype=object),
        np.array(numbers, dtype=object),
        np.array([b"a", b"b"])[numbers],
    ]
    found = [partition.dirichlet(labels, sites=3, alpha=0.5, seed=4) for labels in kinds]
    assert all(same(found[0], one) for one in found)


def test_a_partition_is_the_same_on_each_machine_and_with_each_numpy():
    """These rows were written down once: a version of numpy that draws others would change people's results."""
    labels = [0, 1, 2] * 4
    assert [rows.tolist() for rows in partition.iid(7, sites=3, seed=1).rows] == IID
    assert [rows.tolist() for rows in partition.shards(labels, sites=3, each=2, seed=1).rows] == SHARDS
    assert [rows.tolist() for rows in partition.dirichlet(labels, sites=3, alpha=0.5, seed=1).rows] == DIRICHLET


IID = [[2, 4, 5], [0, 6], [1, 3]]
SHARDS = [[1, 2, 4, 5], [0, 3, 8, 11], [6, 7, 9, 10]]
DIRICHLET = [[0, 2, 5, 6, 8, 11], [1, 3, 4, 9, 10], [7]]
