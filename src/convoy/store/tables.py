"""The tables of a server's ledger; `revisions/` holds how they came to be."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

JOBS: Final = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("submitter", sa.String(255), nullable=False),
    sa.Column("org", sa.String(255), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("submitted_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("deaths", sa.Integer, nullable=False),
    sa.Column("traceback", sa.Text, nullable=False),
    sa.Column("faults", sa.Integer, nullable=False, server_default="0"),
    sa.Index("jobs_by_time", "submitted_at", "id"),
    sa.Index("jobs_by_name", "name"),
    sa.Index("jobs_by_state", "state"),
)
MEMBERS: Final = sa.Table(
    "members",
    METADATA,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("site", sa.String(255), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
QUESTIONS: Final = sa.Table(
    "questions",
    METADATA,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("outlives", sa.Boolean, nullable=False),
    sa.Column("folded", sa.Integer, nullable=False),
    sa.Column("question", sa.JSON, nullable=False),
    sa.Index("questions_by_round", "job", "round"),
    sa.Index("questions_that_outlive", "job", "outlives", "folded"),
)
TASKS: Final = sa.Table(
    "tasks",
    METADATA,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("question", sa.String(32), primary_key=True),
    sa.Column("site", sa.String(255), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
    sa.Column("place", sa.BigInteger, nullable=False),
    sa.Column("stateful", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("traceback", sa.Text, nullable=False),
    sa.Column("spent", sa.JSON(none_as_null=True), nullable=True),
    sa.Index("tasks_with_state", "job", "stateful", "site"),
    sa.Index("tasks_by_place", "job", "site", "place"),
)
ROUNDS: Final = sa.Table(
    "rounds",
    METADATA,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("best", sa.Boolean, nullable=False),
    sa.Column("took_part", sa.JSON, nullable=False),
    sa.Column("left_out", sa.JSON, nullable=False),
    sa.Column("committed_at", sa.Float, nullable=False),
    sa.Column("state", sa.String(64), nullable=False, server_default=""),
    sa.Column("spread", sa.JSON, nullable=False, server_default="{}"),
    sa.Index("rounds_by_best", "job", "best", "round"),
)
AUDIT: Final = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("prev", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
CHECKPOINTS: Final = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("certificate", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
)
SITES: Final = sa.Table(
    "sites",
    METADATA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("revoked_at", sa.Float, nullable=False),
)
INVITES: Final = sa.Table(
    "invites",
    METADATA,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float, nullable=False),
    sa.Column("used_by", sa.String(64), nullable=False),
)
