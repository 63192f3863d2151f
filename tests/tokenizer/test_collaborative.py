"""The collaborative term: its loss by hand, and codes that bring together what is used together."""

import math

import numpy as np
import pytest
import torch

from recsys.core.errors import DataError
from recsys.data.pairs import HeldOutPairs
from recsys.tokenizer.collaborative import CollaborativeConfig, contrastive_loss
from recsys.tokenizer.kinds import TokenizerConfig, fit_tokenizer
from recsys.tokenizer.mpq import MPQConfig, MPQTokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_contrastive_loss_when_two_pairs_then_equals_hand_values():
    # Cosines: of the first pair's left item with the two right ones 1 and 0, of the second's 0 and 1. Drawn alike:
    # -log(e^2 / (e^2 + 1)) at temperature .5. Where the second right item is drawn three times as often as the first,
    # its logits fall by log 3: the first row e^2 / (e^2 + 1/3), the second (e^2 / 3) / (1 + e^2 / 3).
    eye, items = torch.eye(2), torch.tensor([4, 5])
    alike = contrastive_loss(3 * eye, eye, items, torch.zeros(2), 0.5)
    assert alike.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)
    uneven = contrastive_loss(eye, eye, items, torch.tensor([0.0, math.log(3)]), 0.5)
    wanted = (math.log(1 + math.exp(-2) / 3) + math.log(1 + 3 * math.exp(-2))) / 2
    assert uneven.item() == pytest.approx(wanted, rel=1e-5)


def test_contrastive_loss_when_two_pairs_have_one_item_then_they_are_not_told_apart():
    # Both pairs end in item 4: nothing else is left to choose from, whatever the cosines.
    same = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor([4, 4]), torch.zeros(2), 0.5)
    assert same.item() == 0


def two_views(seed=0):
    """Forty items in four groups by a weak feature that users follow, others by a strong one that they do not."""
    rng = np.random.default_rng(seed)
    group_N, noise_N = np.arange(40) % 4, rng.permutation(40) % 4
    angle_N = np.pi / 2 * group_N
    vectors_NF = np.stack([np.cos(angle_N), np.sin(angle_N), *(2.0 * np.eye(4)[noise_N]).T], axis=1)
    left_P = rng.integers(0, 40, 400)
    right_P = (left_P + 4 * rng.integers(1, 10, 400)) % 40
    return (vectors_NF + 0.05 * rng.normal(size=vectors_NF.shape)).astype(np.float32), left_P, right_P, group_N


def test_fit_when_users_follow_a_weak_feature_then_the_term_makes_codes_of_it():
    vectors_NF, left_P, right_P, group_N = two_views()
    pairs = [HeldOutPairs(vectors_NF=vectors_NF, left_P=left_P, right_P=right_P)]
    shape = {"num_codebooks": 1, "codebook_size": 4, "width": 2, "epochs": 300, "learning_rate": 0.02, "batch_size": 40}

    def purity(weight):
        term = CollaborativeConfig(weight=weight, batch_size=64, temperature=0.2)
        tokenizer = MPQTokenizer.fit(vectors_NF, MPQConfig(**shape, collaborative=term), seed=1, pairs=pairs)
        code_N = tokenizer.encode(vectors_NF, resolve=False)[:, 0]
        return sum(np.bincount(group_N[code_N == code]).max() for code in np.unique(code_N)) / 40

    # four groups of ten, independent of the strong feature's: codes of that one hold about three or four of ten
    assert purity(0.0) < 0.6
    assert purity(30.0) > 0.9


def test_fit_when_the_term_weighs_nothing_then_pairs_change_nothing():
    vectors_NF, left_P, right_P, _ = two_views()
    pairs = [HeldOutPairs(vectors_NF=vectors_NF, left_P=left_P, right_P=right_P)]
    config = TokenizerConfig(num_codebooks=2, codebook_size=4, width=2, epochs=2)
    without, beside = (fit_tokenizer(vectors_NF, config, seed=1, pairs=given) for given in ((), pairs))
    torch.testing.assert_close(without.codewords(), beside.codewords(), rtol=0, atol=0)


def test_fit_when_there_is_no_pair_then_says_what_to_change():
    vectors_NF, left_P, right_P, _ = two_views()
    config = MPQConfig(num_codebooks=2, codebook_size=4, width=2, collaborative=CollaborativeConfig(weight=1.0))
    none = [HeldOutPairs(vectors_NF=vectors_NF, left_P=left_P[:0], right_P=right_P[:0])]
    for given in ((), none):
        with pytest.raises(DataError, match=r"set collaborative\.weight of the tokenizer to 0"):
            MPQTokenizer.fit(vectors_NF, config, seed=1, pairs=given)
