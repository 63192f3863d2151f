"""Events and exposures, as version 0.1 made them without migrations; its stores keep theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make both tables where they are not there."""
    if not sa.inspect(op.get_bind()).has_table("events"):
        op.create_table(
            "events",
            sa.Column("event_id", sa.Text, primary_key=True),
            sa.Column("user_id", sa.Text, nullable=False),
            sa.Column("item_id", sa.Text, nullable=False),
            sa.Column("event_type", sa.Text, nullable=False),
            sa.Column("timestamp", sa.BigInteger, nullable=False),
            sa.Column("request_id", sa.Text),
            sa.Column("received_at", sa.BigInteger, nullable=False),
        )
        op.create_index("events_by_user", "events", ["user_id", "timestamp"])
    if not sa.inspect(op.get_bind()).has_table("exposures"):
        op.create_table(
            "exposures",
            sa.Column("request_id", sa.Text, primary_key=True),
            sa.Column("position", sa.Integer, primary_key=True),
            sa.Column("user_id", sa.Text),
            sa.Column("item_id", sa.Text, nullable=False),
            sa.Column("score", sa.Float, nullable=False),
            sa.Column("model_version", sa.Text, nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
        )
