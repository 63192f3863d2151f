"""The settings of an update."""

from pydantic import Field

from recsys.core.config import Config
from recsys.recommender.day_drift import DayBounds


class UpdateConfig(Config):
    """How a run goes on with a new day."""

    epochs: int = Field(default=1, ge=1)
    """Passes of the generator over the longer log."""
    final_epochs: int = Field(default=1, ge=0)
    """Passes of the generator over the latest events of histories alone."""
    member_epochs: int = Field(default=3, ge=0)
    """Passes of the ensemble members."""
    rate: float = Field(default=0.3, gt=0, le=1)
    """Peak learning rates, as a share of those of a full training."""
    max_users: int = Field(default=2000, ge=1)
    """On how many users of the day the models before and after are compared."""
    refresh_codebooks: bool = False
    """Whether the tokenizer's codebooks are fitted anew and matched to the old ones, and all items encoded again.
    Written by ``recsys update``."""
    bounds: DayBounds = DayBounds()
    """From where on a full training is advised."""
    previous: str = ""
    """The model version that an updated run went on from; empty in a full training. Written by ``recsys update``."""
    updates: int = Field(default=0, ge=0)
    """How many updates lie between an updated run and the last full training. Written by ``recsys update``."""
