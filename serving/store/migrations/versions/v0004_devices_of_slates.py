"""What a slate was shown on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the device."""
    op.add_column("slates", sa.Column("device", sa.Text))
