"""Questions and answers as one JSON value each, the order of answers, states, and tracebacks under that name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new tables, bring over what the old ones hold, and drop those."""
    op.alter_column("jobs", "story", new_column_name="traceback")
    op.add_column("rounds", sa.Column("state", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "questions",
        sa.Column("job", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("outlives", sa.Boolean, nullable=False),
        sa.Column("folded", sa.Integer, nullable=False),
        sa.Column("question", sa.JSON, nullable=False),
    )
    op.rename_table("tasks", "old_tasks")
    op.create_table(
        "tasks",
        sa.Column("job", sa.String(32), primary_key=True),
        sa.Column("question", sa.String(32), primary_key=True),
        sa.Column("site", sa.String(255), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("answer", sa.JSON, nullable=True),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("stateful", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
    )
    connection, known = op.get_bind(), sa.MetaData()
    known.reflect(connection, only=("steps", "old_tasks", "questions", "tasks"))
    old, new = known.tables["old_tasks"], known.tables["tasks"]
    for row in connection.execute(sa.select(known.tables["steps"])).mappings().all():
        connection.execute(sa.insert(known.tables["questions"]).values(_question(row)))
    for row in connection.execute(sa.select(old)).mappings().all():
        connection.execute(sa.insert(new).values(_task(row)))
    op.drop_table("steps")
    op.drop_table("old_tasks")


def _question(row: sa.RowMapping) -> dict[str, object]:
    names = ("job", "kind", "round", "rounds", "model", "at_least", "deadline_s", "max_norm", "cohort")
    question = {name: row[name] for name in names}
    question |= {"id": row["step"], "reply": None, "reply_bytes": 0, "settings": "{}", "sites": [], "sample": 0}
    question |= {"quorum": 0, "grace_s": 0.0, "by_arrival": False, "outlives": False, "folded": 0}
    key = {"job": row["job"], "id": row["step"], "round": row["round"], "outlives": False, "folded": 0}
    return {**key, "question": question}


def _task(row: sa.RowMapping) -> dict[str, object]:
    answer = {"question": row["step"], "digest": row["digest"], "weight": row["weight"], "metrics": row["metrics"]}
    answer |= {"value": "", "state": "", "state_bytes": 0}
    came = row["state"] == "received" or row["digest"]
    kept = {"job": row["job"], "question": row["step"], "site": row["site"], "state": row["state"]}
    kept |= {"answer": answer if came else sa.null(), "place": 0, "stateful": False}
    return {**kept, "reason": row["reason"], "traceback": row["story"]}
