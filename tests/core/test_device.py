"""The arithmetic of matrix products: as named, or what the processor is fast in."""

import pytest
import torch

from recsys.core.device import product_dtype


@pytest.mark.parametrize(("device", "has_it"), [("cpu", True), ("cpu", False), ("cuda", False)])
def test_dtype_when_auto_then_is_bfloat16_where_the_device_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, device: str, has_it: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    wanted = torch.bfloat16 if has_it or device == "cuda" else torch.float32
    assert product_dtype("auto", torch.device(device)) == wanted


def test_dtype_when_named_then_is_that_everywhere() -> None:
    for device in ("cpu", "cuda"):
        assert product_dtype("fp32", torch.device(device)) == torch.float32
        assert product_dtype("bf16", torch.device(device)) == torch.bfloat16
