"""Questions and tracebacks under these names."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the table of questions and the columns of tracebacks."""
    op.rename_table("steps", "questions")
    for table, old, new in (
        ("questions", "step", "question"),
        ("tasks", "step", "question"),
        ("tasks", "story", "traceback"),
        ("jobs", "story", "traceback"),
    ):
        op.alter_column(table, old, new_column_name=new)
