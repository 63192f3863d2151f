"""The parts of the item head's logits, against the head."""

from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax

from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.model.generator import Generator
from recsys.recommender.head_parts import COOCCURRENCE, GENERATOR, MEMBERS, head_parts
from recsys.recommender.scorer import GeneratorScorer
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig


def test_head_parts_when_summed_by_the_members_share_then_are_the_heads_log_probabilities(run: Path) -> None:
    generator = Generator.load(run / "calibrated")
    config = IdTransformerConfig(max_length=generator.shape.max_history)
    torch.manual_seed(3)
    member = IdTransformer(config, generator.config.num_items)
    generator.set_members([(member, config)], torch.tensor([], dtype=torch.long))
    generator.head.config.member_share = 0.4
    scorer, head = GeneratorScorer(generator), generator.head
    histories = list(questions(load_prepared(run / "data").log, "test").histories[:8])
    said = {name: part(histories) for name, part in head_parts(scorer).items()}
    assert set(said) == {GENERATOR, MEMBERS, COOCCURRENCE}
    # the generator's and the members' parts hold their shares, 0.6 and 0.4, already
    logits_BN = said[GENERATOR] + said[MEMBERS] + 0.6 * said[COOCCURRENCE] + head.bias_N.numpy()
    for row, history in enumerate(histories):
        logits_BN[row, np.unique(history.items)] += head.config.repeat_bias
    whole_BN = scorer.score_items(scorer.encode(histories))
    np.testing.assert_allclose(log_softmax(logits_BN, axis=1), whole_BN, atol=2e-4)


def test_head_parts_when_a_model_has_no_members_then_they_are_left_out(run: Path) -> None:
    generator = Generator.load(run / "calibrated")
    generator.head.drop_members()
    assert MEMBERS not in head_parts(GeneratorScorer(generator))
