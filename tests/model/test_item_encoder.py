"""The item encoder."""

import torch

from recsys.model.config import ModelConfig
from recsys.model.item_encoder import ItemEncoder
from tests.support.cycle_world import tiny_generator


def test_start_ids_from_when_given_likeness_then_id_vectors_are_it_cut_or_padded() -> None:
    generator = tiny_generator()
    generator.items.start_ids_from(torch.tensor([[3.0, 4.0]]).repeat(20, 1))
    # (3, 4) has length 5: the unit vector is (.6, .8), padded with zeros to width 16.
    assert torch.allclose(generator.items.id_embedding.weight[7], torch.tensor([0.6, 0.8] + [0.0] * 14))


def test_item_vectors_when_codes_are_left_out_then_they_are_the_id_vectors() -> None:
    config = tiny_generator().config
    items = ItemEncoder(config, ModelConfig(**{**config.shape, "item_codes": False}))
    assert torch.equal(items(), items.id_embedding.weight)
    assert torch.equal(items(torch.tensor([3, 1])), items.id_embedding.weight[[3, 1]])
