import numpy as np
import pytest
import torch
from torch.nn import functional

from recsys.sequence.softmax import Answers, catalogue_cross_entropy, sampled_cross_entropy


def _random(rows: int, items: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    shapes = ((rows, 6), (items, 6))
    query, item = (torch.randn(shape, generator=drawn) for shape in shapes)
    return query.requires_grad_(), item.requires_grad_()


def test_cross_entropy_when_rows_fill_several_chunks_then_value_and_gradients_equal_torchs() -> None:
    query_RD, item_ND = _random(300, 40)  # a chunk of four blocks, and one of 44 rows
    item_R = torch.arange(300) % 39
    absent_X = torch.tensor([39])
    ours = catalogue_cross_entropy(query_RD, item_ND, Answers.single(item_R, absent_X))
    grads = torch.autograd.grad(3 * ours, (query_RD, item_ND))
    logits_RN = (query_RD @ item_ND.T).index_fill(1, absent_X, float("-inf"))
    theirs = functional.cross_entropy(logits_RN, item_R)
    wanted = torch.autograd.grad(3 * theirs, (query_RD, item_ND))
    torch.testing.assert_close(ours, theirs)
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want)


def test_cross_entropy_when_answers_are_distributions_then_it_equals_torchs_with_soft_targets() -> None:
    query_RD, item_ND = _random(5, 7)
    item_RZ = torch.tensor([[0, 3, 6]]).expand(5, 3)
    prob_RZ = torch.tensor([[0.5, 0.3, 0.2]]).expand(5, 3)
    answers = Answers(item_RZ=item_RZ, prob_RZ=prob_RZ, absent_X=torch.empty(0, dtype=torch.long))
    ours = catalogue_cross_entropy(query_RD, item_ND, answers)
    dense_RN = torch.zeros(5, 7).scatter(1, item_RZ, prob_RZ)
    theirs = functional.cross_entropy(query_RD @ item_ND.T, dense_RN)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    grad = query_RD.grad
    query_RD.grad = None
    functional.cross_entropy(query_RD @ item_ND.T, dense_RN).backward()
    torch.testing.assert_close(grad, query_RD.grad)


def test_sampled_softmax_when_every_item_is_drawn_once_then_it_is_the_full_softmax() -> None:
    query_RD, item_ND = _random(4, 9)
    item_R = torch.tensor([0, 8, 3, 3])
    items_Y = torch.arange(9)
    ours = sampled_cross_entropy(
        query_RD, item_ND[item_R], item_ND, same_RY=item_R[:, None] == items_Y, log_expected_Y=torch.zeros(9)
    )
    torch.testing.assert_close(ours, functional.cross_entropy(query_RD @ item_ND.T, item_R))


def test_sampled_softmax_when_draws_are_uneven_then_the_correction_keeps_the_normaliser() -> None:
    # one row, own logit 0; others have logits log 1, log 2, log 3, drawn once each with expectations .5, 1 and 2:
    # the corrected normaliser of one draw of each is 1 + 1/.5 + 2/1 + 3/2 = 6.5
    query_RD = torch.ones(1, 1)
    drawn_YD = torch.log(torch.tensor([[1.0], [2.0], [3.0]]))
    loss = sampled_cross_entropy(
        query_RD,
        torch.zeros(1, 1),
        drawn_YD,
        same_RY=torch.zeros(1, 3, dtype=torch.bool),
        log_expected_Y=torch.log(torch.tensor([0.5, 1.0, 2.0])),
    )
    assert loss.item() == pytest.approx(np.log(6.5))
