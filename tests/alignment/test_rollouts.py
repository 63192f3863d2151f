"""Sampled paths end in the catalogue; the order of codebooks is the decoder's."""

import numpy as np
import torch

from recsys.alignment.rollouts import choose_codebook, sample_paths
from tests.support.alignment_world import BOOKS, make_policy


def test_choose_codebook_when_one_is_spent_and_one_forced_then_takes_surest_with_a_choice():
    # Codebook 0 is spent; 1 has one allowed code (forced); 2 and 3 have a choice. Codebook 3 is surer, but
    # its code 0 is barred: softmax(5, 0, 0) leaves .0066 to codes 1 and 2; codebook 2 gives .5 to 0 and 1.
    low = -50.0
    logits = torch.tensor([[[9, 0, 0.0], [9, 0, 0], [1, 1, low], [5, 0, 0]]])
    allowed = torch.tensor([[[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1]]], dtype=torch.bool)
    codes = torch.tensor([[0, -1, -1, -1]])
    assert choose_codebook(logits, allowed, codes).tolist() == [2]
    assert choose_codebook(logits, allowed, torch.tensor([[0, -1, 0, 0]])).tolist() == [1]


def test_sampled_paths_when_finished_then_are_items_of_the_catalogue(world):
    generator, log = world
    policy = make_policy(generator, log)
    paths = sample_paths(
        policy.backbone,
        torch.arange(10).repeat_interleave(8),
        temperature=1.0,
        rng=torch.Generator().manual_seed(1),
    )
    items = {tuple(codes): item for item, codes in enumerate(generator.codes_NM.tolist())}
    reached = [items[tuple(codes)] for codes in paths.tokens_RM.tolist()]  # every path is an item of the catalogue
    for item, prompt in zip(reached, np.repeat(np.arange(10), 8), strict=True):
        assert item not in policy.backbone.prompts.histories[prompt].items
    assert all(sorted(row) == list(range(BOOKS)) for row in paths.book_RO.tolist())
    np.testing.assert_allclose(paths.category_ROQ.sum(dim=2), 1.0, atol=1e-5)


def test_sampled_paths_when_one_item_is_left_then_the_other_steps_are_no_choice(world):
    generator, log = world
    policy = make_policy(generator, log)
    paths = sample_paths(
        policy.backbone, torch.arange(10).repeat_interleave(4), temperature=1.0, rng=torch.Generator().manual_seed(1)
    )
    codes_NM = generator.codes_NM.numpy()
    for row, prompt in enumerate(np.repeat(np.arange(10), 4)):
        left_N = np.ones(len(codes_NM), bool)
        left_N[policy.backbone.prompts.histories[prompt].items] = False
        for book, code, choice in zip(paths.book_RO[row], paths.code_RO[row], paths.choice_RO[row], strict=True):
            assert choice == (len(set(codes_NM[left_N, book])) > 1)
            left_N &= codes_NM[:, book] == int(code)
    assert 0 < paths.choice_RO.float().mean() < 1
    np.testing.assert_allclose(paths.log_prob_RO[~paths.choice_RO], 0.0, atol=1e-6)


def test_choose_codebook_when_compared_with_the_decoders_then_takes_the_same() -> None:
    from recsys.alignment.rollouts import choose_codebook as ours
    from recsys.decoding.crss import choose_codebook as decoders

    rng = np.random.default_rng(3)
    logits = rng.normal(size=(200, 4, 6)).astype(np.float32)
    allowed = rng.random((200, 4, 6)) < 0.4
    allowed[..., 0] = True
    used = rng.random((200, 4)) < 0.4
    used[:, 0] = False
    codes = np.where(used, 0, -1)
    chosen = ours(torch.from_numpy(logits), torch.from_numpy(allowed), torch.from_numpy(codes))
    assert (chosen.numpy() == decoders(logits, allowed, used)[0]).all()
