"""A counter of forgotten users, so that every server deletes them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the counter, and its value when a user was forgotten last."""
    op.add_column("forgotten", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("insert into counters (name, value) values ('forgotten', 0)")
