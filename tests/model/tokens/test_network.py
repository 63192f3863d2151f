import numpy as np
import pytest
import torch

from recsys.contracts import History
from tests.support.tiny_tokens import SHAPE, circle_codes, histories, tiny_model


def test_item_logits_when_codes_are_summed_then_they_equal_the_sum_of_code_logits() -> None:
    model = tiny_model()
    with torch.inference_mode():
        query_BD = model.queries(histories())
        logits_BN = query_BD @ model.item_keys().T
        codes_BMK = model.code_logits(query_BD)
    for item, (place, row) in enumerate(circle_codes().tolist()):
        torch.testing.assert_close(logits_BN[:, item], codes_BMK[:, 0, place] + codes_BMK[:, 1, row])


def test_sum_of_codes_when_differentiated_then_the_gradient_is_autograds() -> None:
    model = tiny_model()
    weight_ND = torch.randn(20, model.code_out.shape[1], generator=torch.Generator().manual_seed(1))
    (model.item_keys() * weight_ND).sum().backward()
    ours = model.code_out.grad
    model.code_out.grad = None
    (model.code_out[model.token_NM].sum(1) * weight_ND).sum().backward()
    torch.testing.assert_close(ours, model.code_out.grad)


def test_queries_when_histories_are_batched_then_each_is_as_if_alone_and_only_the_latest_events_count() -> None:
    model = tiny_model()
    asked = histories()
    with torch.inference_mode():
        together_BD = model.queries(asked)
        for row, history in enumerate(asked):
            torch.testing.assert_close(together_BD[row], model.queries([history])[0])
        torch.testing.assert_close(together_BD[2], model.queries([asked[2].last(SHAPE.max_history)])[0])


def test_prefix_queries_when_a_later_item_changes_then_earlier_queries_stay() -> None:
    model = tiny_model()
    times_BT = torch.arange(4)[None] * 3600
    with torch.inference_mode():
        one, other = (
            model.prefix_queries(torch.tensor([items]), times_BT, model.item_inputs())
            for items in ([1, 2, 3, 4], [1, 2, 3, 9])
        )
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4], other[:, 4])


def test_queries_when_transitions_are_added_then_they_are_the_weighted_sum_of_the_latest_items_vectors() -> None:
    model = tiny_model()
    width, (asked,) = SHAPE.width, histories()[2:]
    assert model.transition_TF is not None
    with torch.no_grad():
        model.transition_TF.uniform_(-1, 1)
    with torch.inference_mode():
        query_D = model.queries([asked])[0]
        from_NF = model.item_inputs()[:, width:]
        latest = asked.items[::-1][: SHAPE.transition_events].tolist()
        expected_F = sum(model.transition_TF[back] * from_NF[item] for back, item in enumerate(latest))
    torch.testing.assert_close(query_D[width - 1 : -1], expected_F)
    assert query_D[-1] == 1
    assert not query_D[: width - 1].norm().isclose(query_D[:-1].norm())


def test_queries_when_there_is_no_transition_then_a_query_is_the_encoders_alone() -> None:
    model = tiny_model(shape=SHAPE.model_copy(update={"transition_width": 0}))
    with torch.inference_mode():
        query_BD = model.queries(histories())
    assert query_BD.shape == (3, SHAPE.width)
    torch.testing.assert_close(query_BD[:, :-1].norm(dim=1), torch.full((3,), SHAPE.scale))


def test_with_transitions_when_a_model_has_none_then_all_else_is_kept_and_logits_move_by_them_alone() -> None:
    plain = tiny_model(shape=SHAPE.model_copy(update={"transition_width": 0}))
    wider = plain.with_transitions(3, seed=1).eval()
    with torch.inference_mode():
        before_BN = plain.queries(histories()) @ plain.item_keys().T
        query_BD, key_ND = wider.queries(histories()), wider.item_keys()
        assert not torch.allclose(query_BD @ key_ND.T, before_BN)
        query_BD[:, SHAPE.width - 1 : -1] = 0
        torch.testing.assert_close(query_BD @ key_ND.T, before_BN)
    np.testing.assert_array_equal(wider.codes_NM(), circle_codes())
    assert plain.config.transition_width == 0


def test_set_items_when_a_new_item_comes_then_it_is_scored_by_its_codes_and_old_scores_stay() -> None:
    model = tiny_model()
    twin = History(items=np.array([3, 4]), timestamps=np.array([0, 1]))
    with torch.inference_mode():
        before_N = (model.queries([twin]) @ model.item_keys().T)[0]
        model.set_items(np.concatenate([circle_codes(), [[3, 1]]]))  # the codes of item 8
        after_N = (model.queries([twin]) @ model.item_keys().T)[0]
    torch.testing.assert_close(after_N[:20], before_N)
    torch.testing.assert_close(after_N[20], after_N[8])


@pytest.mark.parametrize("codes_NM", [np.zeros((3, 1), np.int64), np.full((3, 2), 5), np.full((3, 2), -1)])
def test_set_items_when_codes_do_not_fit_the_layout_then_the_error_says_what_is_wanted(codes_NM: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"codes must be \(items, 2\) numbers from 0 to 4"):
        tiny_model().set_items(codes_NM)
