import numpy as np
import pytest
import torch

from recsys.codes.layout import CodeLayout
from recsys.contracts import Path, Slate, Step
from recsys.model.tokens.mixture import TokenMixture
from recsys.model.tokens.network import TokenModel
from recsys.recommender.faithfulness import facet_ablation
from tests.support.tiny_tokens import SHAPE, histories


def _mixture() -> TokenMixture:
    """Four items in two codebooks; only biases count, so logits are the same for every history."""
    codes_NM = np.array([[0, 0], [1, 0], [1, 1], [2, 1]])
    model = TokenModel(SHAPE, CodeLayout(num_codebooks=2, codebook_size=3), codes_NM)
    with torch.no_grad():
        model.code_out.zero_()
        model.code_out[:, -1] = torch.tensor([6.0, 2.0, 0.0, 1.0, 0.0, 0.0])
    return TokenMixture({"only": model}, [1.0]).eval()


def _slate(codebook: int) -> Slate:
    path = Path(steps=(Step(codebook=codebook, code=0, confidence=1.0),), log_prob=0.0)
    return Slate(items=np.array([0]), scores=np.array([7.0], np.float32), paths=((path,),))


def test_ablation_when_a_path_names_the_facet_that_counts_then_the_item_falls_further_than_by_chance() -> None:
    # scores 7, 3, 2, 0. Without code 0 of codebook 0 (6, the mean of that book over items is 2.5) item 0 has 3.5 and is
    # still first; without code 0 of codebook 1 (1, mean .5) items 0 and 1 lose .5: no fall either
    mixture = _mixture()
    found = facet_ablation(mixture, histories()[:1], [_slate(0)], np.random.default_rng(0))
    assert (found.path, found.random, found.items) == (0.0, 0.0, 1)
    # with code 1 of codebook 0 at 4: scores 7, 5, 4, 0, mean of the book (6 + 4 + 4 + 0) / 4 = 3.5; without its 6
    # item 0 has 4.5 and falls behind item 1 to rank 2, a fall of log2(2 / 1) = 1; without codebook 1 it stays first
    with torch.no_grad():
        mixture.models()[0].code_out[1, -1] = 4.0
    found = facet_ablation(mixture, histories()[:1], [_slate(0)], np.random.default_rng(0))
    assert (found.path, found.random) == pytest.approx((1.0, 0.0))


def test_ablation_when_an_item_has_no_path_then_it_does_not_count() -> None:
    bare = Slate(items=np.array([0]), scores=np.array([1.0], np.float32), paths=((),))
    assert facet_ablation(_mixture(), histories()[:1], [bare], np.random.default_rng(0)).items == 0
