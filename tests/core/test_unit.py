import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from recsys.core.unit import unit_rows


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 2**16))
def test_unit_rows_when_there_is_a_gradient_then_value_and_gradient_are_those_of_normalize(
    rows: int, width: int, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    x_RD, wanted_RD = (torch.randn(rows, width, generator=drawn, dtype=torch.float64) for _ in range(2))
    found = []
    for normalize in (unit_rows, functional.normalize):
        one_RD = x_RD.clone().requires_grad_()
        unit_RD = normalize(one_RD)
        found.append((unit_RD, *torch.autograd.grad((unit_RD * wanted_RD).sum(), one_RD)))
    torch.testing.assert_close(found[0], found[1])


def test_unit_rows_when_a_row_is_zero_then_it_stays_zero() -> None:
    assert unit_rows(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
