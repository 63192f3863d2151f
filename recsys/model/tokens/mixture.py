"""Several token models with codebooks of their own as one: item logits are the weighted sum of the experts' logits.

The sum is again a log-linear model, over the codebooks of all experts side by side: an item's logit is the sum of its
codes' logits, and a softmax over the catalogue normalises it. Experts that read the same codebooks share them, and the
logits of a shared code add up.

Axes: B batch, M codebook (of all experts), K code, N item, D width (of all experts), X expert (or item that
differs from all others), U user.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recsys.codes.layout import CodeLayout
from recsys.contracts import History, ItemScores
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.artifacts import require, write_json
from recsys.core.config import Config, read_config
from recsys.core.errors import ArtifactError
from recsys.model.tokens.config import TokenModelConfig
from recsys.model.tokens.network import TokenModel

_CONFIG, _MODEL = "config.json", "model.safetensors"
_REMEDY = "train the run again to make the token models"


class SavedExpert(Config):
    """One expert of a saved mixture."""

    name: str
    """What the expert's codebooks are called in tables and logs."""
    codebooks: str | None = None
    """The expert whose codebooks it reads; None means its own."""
    model: TokenModelConfig
    """Its shape."""
    layout: CodeLayout
    """Its codebooks."""


class TokenMixtureConfig(Config):
    """A saved mixture: its experts, and how much each one's logits count."""

    num_items: int = Field(ge=0)
    """Size of the catalogue."""
    experts: tuple[SavedExpert, ...] = Field(min_length=1)
    """The experts, in the order of their codebooks."""
    weights: tuple[float, ...]
    """What each expert's logits are multiplied with."""


class TokenMixture(nn.Module):
    """Token models whose codebooks stand side by side and whose item logits add up."""

    weight_X: Tensor

    def __init__(
        self, experts: dict[str, TokenModel], weights: Sequence[float], codebooks: Mapping[str, str] | None = None
    ) -> None:
        """Make a mixture of trained experts.

        Args:
            experts: by name, in the order of their codebooks.
            weights: one for each.
            codebooks: for experts that read the codebooks of another, that other's name.
        """
        super().__init__()
        models = list(experts.values())
        if not models or len(models) != len(weights) or len({model.num_items for model in models}) > 1:
            raise ValueError(
                f"a mixture must have one weight for each expert and one catalogue, got {len(weights)} weights for "
                f"experts of {[model.num_items for model in models]} items"
            )
        if len({model.layout.codebook_size for model in models}) > 1:
            raise ValueError(
                f"experts must have codebooks of one size, got {[model.layout.codebook_size for model in models]}; "
                "set codebook_size alike for all"
            )
        self.codebooks = {name: (codebooks or {}).get(name, name) for name in experts}
        if strangers := [name for name, owner in self.codebooks.items() if self.codebooks.get(owner) != owner]:
            raise ValueError(
                f"experts {strangers} must read the codebooks of an expert that has its own, got {self.codebooks}"
            )
        self.experts = nn.ModuleDict(experts)
        self.register_buffer("weight_X", torch.tensor(list(weights), dtype=torch.float32), persistent=False)

    def models(self) -> list[TokenModel]:
        """Return the experts in the order of their codebooks."""
        return [model for model in self.experts.values() if isinstance(model, TokenModel)]

    @property
    def owners(self) -> list[str]:
        """The experts that have codebooks of their own, in the order of their codebooks."""
        return [name for name, owner in self.codebooks.items() if name == owner]

    def _owning(self) -> list[TokenModel]:
        return [model for name, model in zip(self.codebooks, self.models(), strict=True) if name in self.owners]

    @property
    def layout(self) -> CodeLayout:
        """The codebooks of all experts, side by side; shared ones once."""
        models = self._owning()
        return CodeLayout(
            num_codebooks=sum(model.layout.num_codebooks for model in models),
            codebook_size=models[0].layout.codebook_size,
        )

    @property
    def num_items(self) -> int:
        """Number of items of the catalogue."""
        return self.models()[0].num_items

    def codes_NM(self) -> IntArray:
        """Return the items' codes in all experts' codebooks, (items, codebooks)."""
        return np.concatenate([model.codes_NM() for model in self._owning()], axis=1)

    @property
    def columns(self) -> dict[str, slice]:
        """The columns of all experts' codebooks that each expert with codebooks of its own has."""
        edges = np.cumsum([0, *(model.layout.num_codebooks for model in self._owning())]).tolist()
        return {name: slice(start, stop) for name, start, stop in zip(self.owners, edges, edges[1:], strict=False)}

    def codebook_weights(self, weights: Mapping[str, float] | None = None) -> FloatArray:
        """Return the sum of the weights of the experts that read each codebook, (codebooks,).

        ``weights`` are by expert; without any the mixture's count.
        """
        weights = weights or dict(zip(self.codebooks, self.weight_X.tolist(), strict=True))
        sums = dict.fromkeys(self.owners, 0.0)
        for expert, owner in self.codebooks.items():
            sums[owner] += weights.get(expert, 0.0)
        widths = [model.layout.num_codebooks for model in self._owning()]
        return np.repeat(np.array(list(sums.values()), np.float32), widths)

    def set_items(self, codes_NM: IntArray) -> None:
        """Take over a catalogue's codes in all experts' codebooks, (items, codebooks)."""
        widths = [model.layout.num_codebooks for model in self._owning()]
        parts = np.split(codes_NM, np.cumsum(widths)[:-1], axis=1)
        codes_of = dict(zip(self.owners, parts, strict=True))
        for owner, model in zip(self.codebooks.values(), self.models(), strict=True):
            model.set_items(np.ascontiguousarray(codes_of[owner]))

    def queries(self, histories: Sequence[History]) -> Tensor:
        """Return the experts' queries side by side, each times its weight, (histories, width)."""
        pairs = zip(self.weight_X, self.models(), strict=True)
        return torch.cat([weight * model.queries(histories) for weight, model in pairs], dim=1)

    def item_keys(self) -> Tensor:
        """Return what queries are multiplied with, (items, width)."""
        return torch.cat([model.item_keys() for model in self.models()], dim=1)

    def code_logits(self, histories: Sequence[History]) -> Tensor:
        """Return every code's logit, (histories, codebooks, codes); an item's logit is the sum over its codes."""
        logits: dict[str, Tensor] = {}
        for owner, weight, model in zip(self.codebooks.values(), self.weight_X, self.models(), strict=True):
            own_BMK = weight * model.code_logits(model.queries(histories))
            logits[owner] = logits[owner] + own_BMK if owner in logits else own_BMK
        return torch.cat([logits[owner] for owner in self.owners], dim=1)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        config = TokenMixtureConfig(
            num_items=self.num_items,
            experts=tuple(
                SavedExpert(name=name, codebooks=owner, model=model.config, layout=model.layout)
                for (name, owner), model in zip(self.codebooks.items(), self.models(), strict=True)
            ),
            weights=tuple(float(weight) for weight in self.weight_X),
        )
        weights = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / _MODEL)
        write_json(folder / _CONFIG, config.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> "TokenMixture":
        """Read what :meth:`save` wrote, ready for use.

        Raises:
            ArtifactError: a file is missing or of another version, or the weights are not those of the config.
        """
        config = read_config(TokenMixtureConfig, require(folder / _CONFIG, remedy=_REMEDY))
        weights = load_file(require(folder / _MODEL, remedy=_REMEDY))
        experts = {}
        for expert in config.experts:
            blank_NM = np.zeros((config.num_items, expert.layout.num_codebooks), np.int64)
            experts[expert.name] = TokenModel(expert.model, expert.layout, blank_NM)
        codebooks = {expert.name: expert.codebooks or expert.name for expert in config.experts}
        mixture = cls(experts, config.weights, codebooks)
        try:
            mixture.load_state_dict(weights)
        except RuntimeError as error:
            raise ArtifactError(
                f"{folder / _MODEL} must hold the weights of its config, got {error}; {_REMEDY}"
            ) from error
        for model in mixture.models():
            model.set_items(model.codes_NM())
        return mixture.to(device or torch.device("cpu")).eval()


def token_log_probs(model: TokenModel | TokenMixture) -> ItemScores:
    """Return a token model's log-probabilities as a function of histories; item vectors are summed once.

    Items that have all codes in common are scored once, so that they are equal to the bit in every batch.
    """
    codes_NM = model.codes_NM() if isinstance(model, TokenMixture) else model.token_NM.cpu().numpy()
    _, first_X, place_N = np.unique(codes_NM, axis=0, return_index=True, return_inverse=True)
    with torch.inference_mode():
        key_ND = model.eval().item_keys()
        device = key_ND.device
        key_XD = key_ND[torch.from_numpy(first_X).to(device)]
        place = torch.from_numpy(place_N.reshape(-1)).to(device)

    def log_probs(histories: Sequence[History]) -> FloatArray:
        with torch.inference_mode():
            logits_BN = (model.queries(histories) @ key_XD.T)[:, place]
            scores_BN: FloatArray = functional.log_softmax(logits_BN, dim=-1).cpu().numpy()
        return scores_BN

    return log_probs
