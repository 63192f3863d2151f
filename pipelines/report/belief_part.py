"""The part of the page about token experts: weights, what validation said, and whether path probabilities hold."""

from pathlib import Path

from pipelines.report import plots
from pipelines.report.parts import Part, read
from pipelines.stages.token_search import RELIABILITY
from recsys.recommender.token_experts import TokenChoices


def beliefs(run: Path) -> Part:
    """Return the choices of the stage `tokens`, and its paths' probabilities beside how often they came true.

    Raises:
        ArtifactError: the run has no token experts.
    """
    choices = TokenChoices.model_validate(read(run, "tokens/choices.json"))
    found = read(run, f"tokens/{RELIABILITY}")
    points = [(one["predicted"], one["observed"]) for one in found["bins"]]
    return {
        "users": found["users"],
        "weights": {"search": choices.belief, "ranking": choices.rank},
        "validation": choices.validation,
        "plot": plots.reliability(points, "probability of paths"),
    }
