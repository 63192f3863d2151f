"""The data contract: names of files and columns, in one place."""

from typing import Final

INTERACTIONS: Final = "interactions.parquet"
ITEMS: Final = "items.parquet"

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
VECTOR_PREFIX: Final = "vector_"

REQUIRED_INTERACTION_COLUMNS: Final = (USER, ITEM, TIMESTAMP)
REQUIRED_ITEM_COLUMNS: Final = (ITEM,)
