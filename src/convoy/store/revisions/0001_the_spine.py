"""Make the tables of the spine: jobs, members, steps, tasks, rounds, audit, sites, invites."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    text, short, digest, job = sa.Text, sa.String(16), sa.String(64), sa.String(32)
    name = sa.String(255)
    op.create_table(
        "jobs",
        sa.Column("id", job, primary_key=True),
        *(sa.Column(c, name, nullable=False) for c in ("name", "submitter", "org")),
        sa.Column("bundle", digest, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("spec", text, nullable=False),
        sa.Column("state", short, nullable=False),
        sa.Column("cause", text, nullable=False),
        *(sa.Column(c, sa.Float, nullable=False) for c in ("submitted_at", "started_at", "ended_at")),
        sa.Column("outcome", short, nullable=False),
        *(sa.Column(c, sa.Integer, nullable=False) for c in ("rounds", "deaths")),
        sa.Column("story", text, nullable=False),
    )
    op.create_table(
        "members",
        sa.Column("job", job, primary_key=True),
        sa.Column("site", name, primary_key=True),
        sa.Column("state", short, nullable=False),
        sa.Column("reason", text, nullable=False),
    )
    op.create_table(
        "steps",
        sa.Column("job", job, primary_key=True),
        sa.Column("step", job, primary_key=True),
        sa.Column("kind", name, nullable=False),
        *(sa.Column(c, sa.Integer, nullable=False) for c in ("round", "rounds")),
        sa.Column("model", digest, nullable=False),
        sa.Column("at_least", sa.Integer, nullable=False),
        sa.Column("cohort", sa.JSON, nullable=False),
        *(sa.Column(c, sa.Float, nullable=False) for c in ("deadline_s", "max_norm")),
        sa.Column("numbers", sa.JSON, nullable=False),
    )
    op.create_table(
        "tasks",
        sa.Column("job", job, primary_key=True),
        sa.Column("step", job, primary_key=True),
        sa.Column("site", name, primary_key=True),
        sa.Column("state", short, nullable=False),
        sa.Column("digest", digest, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        *(sa.Column(c, text, nullable=False) for c in ("reason", "story")),
    )
    op.create_table(
        "rounds",
        sa.Column("job", job, primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("model", digest, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("best", sa.Boolean, nullable=False),
        *(sa.Column(c, sa.JSON, nullable=False) for c in ("took_part", "left_out")),
        sa.Column("committed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "sites",
        sa.Column("name", name, primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("revoked_at", sa.Float, nullable=False),
    )
    op.create_table(
        "invites",
        sa.Column("hash", digest, primary_key=True),
        sa.Column("kind", short, nullable=False),
        sa.Column("name", name, nullable=False),
        *(sa.Column(c, sa.Float, nullable=False) for c in ("expires_at", "used_at")),
        sa.Column("used_by", digest, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", text, nullable=False),
        sa.Column("action", job, nullable=False),
        *(sa.Column(c, text, nullable=False) for c in ("object", "outcome")),
        *(sa.Column(c, digest, nullable=False) for c in ("prev", "hash")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", digest, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(c, text, nullable=False) for c in ("certificate", "signature")),
    )


def downgrade() -> None:
    """Drop the tables."""
    tables = ("invites", "sites", "checkpoints", "audit", "rounds", "tasks", "steps", "members", "jobs")
    for table in tables:
        op.drop_table(table)
