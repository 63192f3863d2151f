"""Options for reading raw tables; what is not given is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How raw tables are read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """The source's name of a contract column, e.g. ``{"item_id": "sku"}``; others are recognised by their names."""
    time_unit: str | None = None
    """A key of :data:`recsys.data.times.UNITS`; None recognises the unit."""
    allow_unmatched: bool = False
    """Whether more than half of the log's items may be without metadata."""
    now: float | None = None
    """The unix time of reading, after which times are in the future; None is the clock's."""
