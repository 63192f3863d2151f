"""The peer of generate and its trie: what may follow, and slates of distinct items of the catalogue."""

import numpy as np
import torch

from pipelines.benches.generate import BEAMS, GeneratePeer, allowed_tokens, prefix_trie
from recsys.contracts import History, Request
from recsys.model.config import GeneratorConfig


def test_allowed_tokens_when_a_prefix_is_written_then_are_those_of_items_that_begin_so() -> None:
    trie = prefix_trie(np.array([[0, 4, 8], [0, 5, 8], [0, 5, 9], [1, 4, 8]]))
    allowed = allowed_tokens(trie, prompt=2)
    for written, wanted in (([], {0, 1}), ([0], {4, 5}), ([0, 5], {8, 9}), ([1, 4], {8})):
        assert set(allowed(0, torch.tensor([7, 7, *written]))) == wanted


def test_peer_when_asked_then_recommends_distinct_items_of_the_catalogue() -> None:
    codes_NM = np.array([[at // 16, at // 4 % 4, at % 4] for at in range(64)])
    shape = {"width": 8, "layers": 1, "heads": 2}
    config = GeneratorConfig(num_items=64, num_codebooks=3, codebook_size=4, shape=shape)
    for size in (0, 3, 40):
        history = History(items=np.arange(size), timestamps=np.arange(size))
        (slate,) = GeneratePeer(codes_NM, config).recommend([Request(history=history)])
        assert len(set(slate.items.tolist())) == BEAMS
        assert (np.diff(slate.scores) <= 0).all()
