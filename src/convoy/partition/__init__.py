"""Which site holds which rows of a data set: partitioners for simulations, as pure functions of arrays."""

from convoy.partition.counts import iid, sizes
from convoy.partition.labels import classes, dirichlet, given, shards
from convoy.partition.order import by_time, columns, feature, natural
from convoy.partition.rows import Partition, Parts
from convoy.partition.table import Table

__all__ = [
    "Partition",
    "Parts",
    "Table",
    "by_time",
    "classes",
    "columns",
    "dirichlet",
    "feature",
    "given",
    "iid",
    "natural",
    "shards",
    "sizes",
]
