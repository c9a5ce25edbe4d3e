"""Keep what each answer took, and how the update of each site lies to the fold of its round."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the index by which a site's newest answer is found."""
    op.add_column("tasks", sa.Column("spent", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("rounds", sa.Column("spread", sa.JSON, nullable=False, server_default="{}"))
    op.create_index("tasks_by_place", "tasks", ["job", "site", "place"])
