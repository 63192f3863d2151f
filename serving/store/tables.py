"""The tables of the store as the code reads and writes them; migrations/ makes them."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table, Text

METADATA = MetaData()

EVENTS = Table(
    "events",
    METADATA,
    Column("event_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("timestamp", BigInteger, nullable=False, comment="unix seconds"),
    Column("request_id", Text),
    Column("received_at", BigInteger, nullable=False, comment="nanoseconds; orders events of one second"),
    Column("weight", Float, nullable=False, comment="negative: disliked"),
)

SLATES = Table(
    "slates",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("user_id", Text),
    Column("at", BigInteger, nullable=False, comment="unix seconds"),
    Column("model_version", Text, comment="null where no model ranked"),
    Column("policy", Text, nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("degraded", String(64)),
    Column("surface", Text),
    Column("device", Text),
    Column("arm", String(64)),
    Column("slate_propensity", Float),
    Column("item_ids", Text, nullable=False, comment="JSON list, best first"),
    Column("scores", Text, nullable=False, comment="JSON list, one a place"),
    Column("propensities", Text, nullable=False, comment="JSON list, one a place; null where unknown"),
)

ITEMS = Table(
    "items",
    METADATA,
    Column("item_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="of all items, when this one changed last"),
    Column("added_at", BigInteger, nullable=False, comment="unix seconds"),
    Column("available", Boolean, nullable=False),
    Column("starts_at", BigInteger),
    Column("ends_at", BigInteger),
    Column("body", Text, nullable=False, comment="JSON object of the item's columns"),
)

RULES = Table(
    "rules",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False, comment="unix seconds"),
    Column("body", Text, nullable=False, comment="JSON"),
)

COUNTERS = Table(
    "counters",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

SETTINGS = Table(
    "settings",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

SOURCES = Table(
    "sources",
    METADATA,
    Column("content_hash", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False, comment="unix seconds"),
    Column("events", BigInteger, nullable=False),
)

FORGOTTEN = Table(
    "forgotten",
    METADATA,
    Column("user_hash", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False, comment="unix seconds"),
    Column("version", BigInteger, nullable=False, comment="of the counter, when this user was forgotten last"),
)
