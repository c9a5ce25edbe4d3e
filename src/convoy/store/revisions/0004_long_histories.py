"""Find open work, the newest jobs and the best round of a job without reading all of a history."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("jobs_by_time", "jobs", ["submitted_at", "id"])
    op.create_index("jobs_by_name", "jobs", ["name"])
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_index("questions_by_round", "questions", ["job", "round"])
    op.create_index("questions_that_outlive", "questions", ["job", "outlives", "folded"])
    op.create_index("tasks_with_state", "tasks", ["job", "stateful", "site"])
    op.create_index("rounds_by_best", "rounds", ["job", "best", "round"])
