"""CRSS by hand."""

import numpy as np

from recsys.decoding.crss import choose_codebook


def test_choose_codebook_when_one_is_forced_then_prefers_the_most_confident_that_decides():
    # Codebook 0: one allowed code (confidence 1, no information). Codebook 1: logits 0, 0 -> 1/2.
    # Codebook 2: logits log 3, 0 -> 3/4, its third code (logit 9) is not allowed and must not count.
    logits_PMK = np.array([[[5, 1, 1], [0, 0, 0], [np.log(3), 0, 9]]], np.float32)
    allowed_PMK = np.array([[[True, False, False], [True, True, False], [True, True, False]]])
    used = np.zeros((1, 3), np.bool_)
    chosen = []
    for wanted in ([np.log(0.75), np.log(0.25), -np.inf], [np.log(0.5), np.log(0.5), -np.inf], [0, -np.inf, -np.inf]):
        codebook_P, log_prob_PK = choose_codebook(logits_PMK, allowed_PMK, used)
        np.testing.assert_allclose(log_prob_PK[0], wanted, atol=1e-6)
        chosen.append(int(codebook_P[0]))
        used[0, codebook_P[0]] = True
    assert chosen == [2, 1, 0]
    assert choose_codebook(logits_PMK, allowed_PMK, np.array([[True, False, False]]), order="fixed")[0] == [1]
