"""The audit trail in the ledger: read in its order, or searched, the newest first."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from convoy.store import tables
from convoy.trust import audit

LOOKED_AT: Final = 30_000  # records that one search looks at: some 70 ms for a text that none of them has


def read(connection: sa.Connection, since: int, count: int) -> list[audit.Entry]:
    """Return at most `count` records from number `since` on, each followed by its checkpoint if it has one."""
    records, checkpoints = tables.AUDIT.c, tables.CHECKPOINTS.c
    asked = sa.select(tables.AUDIT).where(records.seq >= since).order_by(records.seq).limit(count)
    found: list[audit.Entry] = [audit.Record(**row) for row in connection.execute(asked).mappings()]
    if found:
        signed = sa.select(tables.CHECKPOINTS).where(checkpoints.seq.between(since, found[-1].seq))
        found += [audit.Checkpoint(**row) for row in connection.execute(signed).mappings()]
    return sorted(found, key=lambda entry: (entry.seq, isinstance(entry, audit.Checkpoint)))


def search(connection: sa.Connection, wanted: audit.Search, before: int, count: int) -> tuple[list[audit.Record], int]:
    """Return at most `count` records that fit, newest first, and where the next search goes on; 0: nowhere.

    Only records with numbers under `before` are looked at, and at most `LOOKED_AT` of them.
    """
    seq = tables.AUDIT.c.seq
    newest = connection.execute(sa.select(sa.func.max(seq)).where(seq < before)).scalar()
    if newest is None:
        return [], 0
    lowest = max(newest + 1 - LOOKED_AT, 0)
    asked = sa.select(tables.AUDIT).where(seq.between(lowest, newest), *_fitting(wanted)).order_by(seq.desc())
    found = [audit.Record(**row) for row in connection.execute(asked.limit(count)).mappings()]
    return found, found[-1].seq if len(found) == count else lowest


def _fitting(wanted: audit.Search) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a search."""
    its = tables.AUDIT.c
    texts = (its.actor, its.action, its.object, its.outcome)
    conditions = [its.at >= wanted.since, its.at < wanted.until] if wanted.since or wanted.until != _ALL else []
    conditions += [column.icontains(said, autoescape=True) for column, said in _parts(wanted) if said]
    if wanted.action:
        conditions.append(sa.func.lower(its.action) == wanted.action.lower())
    if wanted.outcome:
        conditions.append(its.outcome.istartswith(wanted.outcome, autoescape=True))
    if wanted.text:
        conditions.append(sa.or_(*(column.icontains(wanted.text, autoescape=True) for column in texts)))
    return conditions


_ALL: Final = audit.Search().until


def _parts(wanted: audit.Search) -> tuple[tuple[sa.Column[str], str], ...]:
    return ((tables.AUDIT.c.actor, wanted.actor), (tables.AUDIT.c.object, wanted.object))
