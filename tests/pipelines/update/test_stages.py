"""The networks of an update: wider by new items, everything else as it was."""

import numpy as np
import torch

from pipelines.update.stages import wider_member
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig


def test_wider_member_when_a_new_item_is_like_two_then_starts_between_them() -> None:
    config = IdTransformerConfig(width=8, layers=1, max_length=4)
    torch.manual_seed(0)
    network = IdTransformer(config, 3)
    # cosines with the three old items: 0.6, 0.8 and 0; so weights 3/7 and 4/7; the second new item is like nothing
    vectors_NF = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0], [0, 0, 0]], np.float32)
    wider = wider_member(network, config, vectors_NF)
    old_ND, new_ND = network.items.weight, wider.items.weight
    assert torch.equal(new_ND[:3], old_ND)
    assert torch.allclose(new_ND[3], (3 * old_ND[0] + 4 * old_ND[1]) / 7, atol=1e-6)
    assert not new_ND[4].any()
    before, after = network.state_dict(), wider.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "items.weight")


def test_wider_member_when_nothing_is_new_then_is_the_same() -> None:
    config = IdTransformerConfig(width=8, layers=1, max_length=4)
    network = IdTransformer(config, 2)
    same = wider_member(network, config, np.eye(2, dtype=np.float32))
    assert torch.equal(same.items.weight, network.items.weight)
