"""Several id Transformers as one: queries and keys side by side are the mean of their logits."""

import numpy as np
import pytest
import torch

from recsys.contracts import History
from recsys.sequence.id_ensemble import IdEnsemble
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig, score_histories

ITEMS = 9
CONFIGS = (
    IdTransformerConfig(width=8, layers=1, max_length=5),
    IdTransformerConfig(width=4, layers=2, max_length=5, logits="dot"),
    IdTransformerConfig(width=8, layers=1, max_length=5),
)
HISTORY = np.array([3, 1, 7])


def networks(count: int) -> list[IdTransformer]:
    """Return untrained networks of different shapes and logits."""
    torch.manual_seed(1)
    return [IdTransformer(config, ITEMS).eval() for config in CONFIGS[:count]]


@torch.no_grad()
def mean_logits(ensemble: IdEnsemble) -> torch.Tensor:
    """Return the logits of all items after the history."""
    state_1D = ensemble.prefix_states(torch.from_numpy(HISTORY)[None])[:, -1]
    return ensemble.queries(state_1D) @ ensemble.keys().T


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ensemble_when_there_are_some_networks_then_logits_are_the_mean_of_theirs(count: int) -> None:
    members = networks(count)
    history = History(items=HISTORY, timestamps=np.arange(3))
    each = [score_histories(one, config, [history]) for one, config in zip(members, CONFIGS[:count], strict=True)]
    np.testing.assert_allclose(mean_logits(IdEnsemble(members)).numpy(), np.mean(each, axis=0), atol=1e-5)


def test_ensemble_when_no_item_was_seen_then_all_logits_are_zero() -> None:
    ensemble = IdEnsemble(networks(2))
    state_1D = ensemble.prefix_states(torch.zeros(1, 0, dtype=torch.long))[:, -1]
    assert state_1D.shape == (1, 8 + 4)
    assert not (ensemble.queries(state_1D) @ ensemble.keys().T).any()


def test_forget_items_when_an_item_is_forgotten_then_only_its_logit_is_zero() -> None:
    ensemble = IdEnsemble(networks(2))
    ensemble.forget_items(torch.tensor([4]))
    assert (mean_logits(ensemble)[0] == 0).nonzero().tolist() == [[4]]
