"""The data contract: names of files and columns, in one place."""

from typing import Final

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"
IMPRESSIONS: Final = "impressions.parquet"

USER: Final = "user_id"
ITEM: Final = "item_id"
TIMESTAMP: Final = "timestamp"
POSITION: Final = "position"
EVENT_TYPE: Final = "event_type"
RATING: Final = "rating"
WEIGHT: Final = "weight"

TITLE: Final = "title"
BRAND: Final = "brand"
CATEGORIES: Final = "categories"
TEXT: Final = "text"
YEAR: Final = "year"
VECTOR_PREFIX: Final = "vector_"

REQUEST: Final = "request_id"
REWARD: Final = "reward"
PROPENSITY: Final = "propensity"
SLATE_PROPENSITY: Final = "slate_propensity"
POLICY: Final = "policy"
CONTEXT: Final = "context"

REQUIRED_INTERACTION_COLUMNS: Final = (USER, ITEM, TIMESTAMP)
OPTIONAL_INTERACTION_COLUMNS: Final = (POSITION, EVENT_TYPE, RATING, WEIGHT)
REQUIRED_ITEM_COLUMNS: Final = (ITEM,)
IMPRESSION_COLUMNS: Final = (REQUEST, USER, ITEM, POSITION, TIMESTAMP, REWARD)
OPTIONAL_IMPRESSION_COLUMNS: Final = (PROPENSITY, SLATE_PROPENSITY, POLICY, CONTEXT)
