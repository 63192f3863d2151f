"""Weights of events; one row a slate, with its policy and propensities; items, rules and settings made at run time."""

import json
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the weight, make the new tables, and move exposures over."""
    op.add_column("events", sa.Column("weight", sa.Float, nullable=False, server_default="1"))
    op.create_index("events_by_time", "events", ["timestamp"])
    op.create_table(
        "slates",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("model_version", sa.Text),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("strategy", sa.String(64), nullable=False),
        sa.Column("degraded", sa.String(64)),
        sa.Column("surface", sa.Text),
        sa.Column("arm", sa.String(64)),
        sa.Column("slate_propensity", sa.Float),
        sa.Column("item_ids", sa.Text, nullable=False),
        sa.Column("scores", sa.Text, nullable=False),
        sa.Column("propensities", sa.Text, nullable=False),
    )
    op.create_index("slates_by_user", "slates", ["user_id"])
    op.create_index("slates_by_time", "slates", ["at"])
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("available", sa.Boolean, nullable=False),
        sa.Column("starts_at", sa.BigInteger),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("items_by_version", "items", ["version"])
    op.create_table(
        "rules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("content_hash", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "forgotten",
        sa.Column("user_hash", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "items", "value": 0}, {"name": "rules", "value": 0}])
    _move_exposures()


def _move_exposures() -> None:
    """Write the rows of version 0.1 as slates; their policy and propensities are not known."""
    bind = op.get_bind()
    columns = "request_id, user_id, item_id, score, model_version, at"
    rows = bind.execute(sa.text(f"select {columns} from exposures order by request_id, position")).all()
    insert = sa.text(
        "insert into slates (request_id, user_id, at, model_version, policy, strategy, item_ids, scores, propensities) "
        "values (:request_id, :user_id, :at, :model_version, 'unknown', 'unknown', :item_ids, :scores, :propensities)"
    )
    for request_id, group in groupby(rows, key=lambda row: row.request_id):
        shown = list(group)
        values = {
            "request_id": request_id,
            "user_id": shown[0].user_id,
            "at": shown[0].at,
            "model_version": shown[0].model_version,
            "item_ids": json.dumps([row.item_id for row in shown]),
            "scores": json.dumps([row.score for row in shown]),
            "propensities": json.dumps([None] * len(shown)),
        }
        bind.execute(insert, values)
    op.drop_table("exposures")
