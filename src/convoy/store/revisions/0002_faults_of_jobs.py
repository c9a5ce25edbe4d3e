"""Count how often a job has failed by an error that is not its own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count to the jobs."""
    op.add_column("jobs", sa.Column("faults", sa.Integer, nullable=False, server_default="0"))
