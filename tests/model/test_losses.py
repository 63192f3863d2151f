"""The losses: chunked against plain cross-entropy, and worked out by hand."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from recsys.model.item_head import LogitTerms
from recsys.model.losses import ItemQueries, item_loss, item_softmax, token_loss


def test_item_loss_when_chunked_then_equals_plain_cross_entropy_with_gradients() -> None:
    torch.manual_seed(1)
    queries = torch.randn(300, 8, requires_grad=True)
    items = functional.normalize(torch.randn(40, 8), dim=-1).requires_grad_()
    targets = torch.randint(0, 40, (300,))
    seen = torch.randint(0, 40, (300, 3))
    seen = torch.where(seen == targets[:, None], targets[:, None], seen)
    weight = torch.tensor([0.7, -0.4], requires_grad=True)
    prior_scores = [
        sparse.random_array((300, 40), density=0.2, format="csr", dtype=np.float32, rng=k) for k in range(2)
    ]
    dense_prior = torch.stack([torch.from_numpy(sparse.csr_array(part).toarray()) for part in prior_scores])
    all_logits = queries @ items.T + (weight[:, None, None] * dense_prior).sum(0)
    absent = torch.tensor([3, 39])
    targets[torch.isin(targets, absent)] = 5
    seen = torch.where(torch.isin(seen, absent), targets[:, None], seen)
    logits = all_logits.scatter(1, seen, float("-inf")).index_fill(1, absent, float("-inf"))
    logits = logits.scatter(1, targets[:, None], all_logits.gather(1, targets[:, None]))
    plain = functional.cross_entropy(logits, targets)
    wanted = torch.autograd.grad(plain, (queries, items, weight))
    asked = ItemQueries(targets_R=targets, seen_RT=seen, absent_X=absent, prior_scores=prior_scores)
    got_loss = item_loss(LogitTerms(queries_BD=queries, keys_ND=items, weight_J=weight, bias_N=torch.zeros(40)), asked)
    got = torch.autograd.grad(got_loss, (queries, items, weight))
    # Products may run in bfloat16, which keeps 8 bits: 1/256 of the value.
    assert got_loss.item() == pytest.approx(plain.item(), rel=0.01)
    for mine, theirs in zip(got, wanted, strict=True):
        assert (mine - theirs).norm() / theirs.norm() < 0.02


def test_item_loss_when_the_answer_is_a_draw_then_equals_plain_cross_entropy_with_probabilities() -> None:
    torch.manual_seed(2)
    queries, items = torch.randn(150, 8, requires_grad=True), torch.randn(30, 8)
    seen = torch.randint(0, 10, (150, 3))
    target_prob = torch.rand(150, 30).scatter(1, seen, 0.0)
    target_prob = target_prob / target_prob.sum(1, keepdim=True)
    logits = (queries @ items.T).scatter(1, seen, -1e9)
    plain = functional.cross_entropy(logits, target_prob)
    targets = target_prob.argmax(1)
    asked = ItemQueries(
        targets_R=targets, seen_RT=seen, absent_X=torch.zeros(0, dtype=torch.long), target_prob_RN=target_prob
    )
    terms = LogitTerms(queries_BD=queries, keys_ND=items, weight_J=torch.zeros(0), bias_N=torch.zeros(30))
    got = item_loss(terms, asked)
    assert got.item() == pytest.approx(plain.item(), rel=0.01)
    mine, theirs = (torch.autograd.grad(loss, queries)[0] for loss in (got, plain))
    assert (mine - theirs).norm() / theirs.norm() < 0.02


def test_token_loss_when_two_codes_allowed_then_is_log_two() -> None:
    logits = torch.zeros(1, 2, 4)
    allowed = torch.tensor([[[True, True, False, False], [True, False, False, False]]])
    targets = torch.tensor([[[1.0, 0, 0, 0], [1.0, 0, 0, 0]]])
    loss = token_loss(logits, allowed, targets, torch.tensor([[True, True]]))
    # Codebook 0 leaves two equal choices: -log(1/2) = .6931; codebook 1 leaves none and does not count.
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)


def test_item_softmax_when_computed_then_is_the_softmax_that_the_item_loss_trains() -> None:
    torch.manual_seed(5)
    queries, items = torch.randn(20, 8) * 2, functional.normalize(torch.randn(15, 8), dim=-1)
    prior_scores = [sparse.random_array((20, 15), density=0.3, format="csr", dtype=np.float32, rng=1)]
    targets = torch.randint(0, 10, (20,))
    seen = torch.where(torch.randint(0, 10, (20, 2)) == targets[:, None], targets[:, None], torch.tensor([[11, 12]]))
    asked = ItemQueries(targets_R=targets, seen_RT=seen, absent_X=torch.tensor([14]), prior_scores=prior_scores)
    terms = LogitTerms(queries_BD=queries, keys_ND=items, weight_J=torch.tensor([0.8]), bias_N=torch.zeros(15))
    prob = item_softmax(terms, asked)
    assert torch.allclose(prob.sum(-1), torch.ones(20), atol=1e-5)
    loss = item_loss(terms, asked)
    assert -prob.gather(1, targets[:, None]).log().mean() == pytest.approx(loss.item(), rel=1e-3)
    assert not prob[:, 14].any()
