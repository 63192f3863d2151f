"""CORP by hand: pruning, and what takes a pruned path's place."""

import numpy as np

from recsys.codes.validity import ValidityIndex
from recsys.contracts import StepScores
from recsys.decoding.corp import prune
from tests.support.table_scorer import TableScorer, decode_by, decoder_config, history_of


def test_prune_when_too_few_are_consistent_then_the_least_inconsistent_fill_up():
    # Row 0 wants two of three: the consistent one and the smaller jump. Row 1 wants one, and has only a jump.
    keep_P = prune(
        np.array([0, 0, 0, 1]), np.array([0.5, 0.3, 0.0, 0.9], np.float32), theta=0.1, wanted_B=np.array([2, 1])
    )
    assert keep_P.tolist() == [False, True, True, True]


class JumpScorer(TableScorer):
    """Codebook 0 comes first, its code 0 is the most probable, then 1, then 2; listed first codes move the category."""

    def __init__(self, jumps):
        super().__init__(items=12, codebooks=2, codes=12)
        self.jumps = jumps

    def score_steps(self, context, row_P, codes_PM):  # noqa: ARG002 (the protocol)
        logits_PMK = np.zeros((len(row_P), 2, 12), np.float32)
        logits_PMK[:, 0, :3] = [3, 2, 1]
        category_PQ = np.tile(np.array([1.0, 0.0], np.float32), (len(row_P), 1))
        category_PQ[np.isin(codes_PM[:, 0], self.jumps)] = 0.5
        return StepScores(logits_PMK=logits_PMK, category_PQ=category_PQ)


def decode_jumps(jumps, **settings_):
    """Decode 12 items: first codes 0, 1, 2, four items each."""
    codes_NM = np.stack([np.arange(12) // 4, np.arange(12)], axis=1)
    plain = {"num_paths": 1, "theta": 0.3, "finish_below": 1, "order": "fixed", "ranked": "reached", "guidance": 0}
    config = decoder_config(**plain | settings_)
    return decode_by(JumpScorer(jumps), ValidityIndex(codes_NM, 12), [history_of(1)], n=1, config=config)[0]


def test_decode_when_the_best_path_jumps_then_the_next_best_takes_its_place():
    # The jump is JS .311278 (worked out above), over theta .3 and under theta .32.
    slate = decode_jumps([0])
    assert slate.paths[0][0].steps[0].code == 1
    assert [path.steps[0].code for path in slate.pruned] == [0]
    assert "JS 0.311" in slate.pruned[0].reason
    for kept in (decode_jumps([0], theta=0.32), decode_jumps([0], corp=False), decode_jumps([0], theta=None)):
        assert kept.paths[0][0].steps[0].code == 0
        assert kept.pruned == ()


def test_decode_when_a_path_that_is_finished_has_jumped_then_it_is_cut_as_well() -> None:
    # four items are left after the first code, and that is enough to finish: nothing follows that could notice the jump
    slate = decode_jumps([0], min_steps=1, finish_below=4)
    assert [len(paths[0].steps) for paths in slate.paths] == [1]
    assert slate.paths[0][0].steps[0].code == 1
    assert [path.steps[0].code for path in slate.pruned] == [0]


def test_decode_when_every_expansion_jumps_then_a_path_lives_all_the_same():
    slate = decode_jumps([0, 1, 2])
    assert slate.paths[0][0].steps[0].code == 0
    assert [path.steps[0].code for path in slate.pruned] == [1]
