"""The section about token experts: weights, validation's figures, and whether path probabilities hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipelines.report import plots
from pipelines.report.run_files import read
from pipelines.stages.token_search import RELIABILITY
from recsys.recommender.token_experts import TokenChoices


@dataclass(frozen=True, kw_only=True)
class TokenExpertsSection:
    """Weights of the sources that search and that rank, validation's figures, and a plot of path probabilities."""

    users: int
    """How many validation users the plot is of."""
    weights: Mapping[str, Mapping[str, float]]
    validation: Mapping[str, float]
    plot: Markup


def token_experts(run: Path) -> TokenExpertsSection:
    """Return the choices of the stage `tokens`, and its paths' probabilities beside how often they came true.

    Raises:
        ArtifactError: the run has no token experts, or those of another version.
    """
    choices = TokenChoices.load(run / "tokens")
    found = read(run, f"tokens/{RELIABILITY}")
    points = [(one["predicted"], one["observed"]) for one in found["bins"]]
    return TokenExpertsSection(
        users=found["users"],
        weights={
            "tokens alone": choices.token_weights,
            "search": choices.search_weights,
            "ranking": choices.rank_weights,
        },
        validation=choices.validation,
        plot=plots.reliability(points, "probability of paths"),
    )
