"""Freed memory goes back to the system now and then; the collector does not look through what an import makes."""

import gc
import time

import pytest

from serving.memory import Trimmer, without_garbage_collection


def test_after_when_what_is_kept_changes_then_trims_at_most_every_half_a_minute() -> None:
    trims: list[int] = []
    trimmer = Trimmer(lambda: trims.append(1))
    began = time.monotonic()
    first, second, third = object(), object(), object()
    trimmer.after(first, now=began + 100)
    assert trims == []  # nothing was replaced yet
    trimmer.after(second, now=began + 101)
    trimmer.after(second, now=began + 200)
    assert trims == [1]
    trimmer.after(third, now=began + 130)
    assert trims == [1]  # it waits
    trimmer.after(third, now=began + 132)
    assert trims == [1, 1]


@pytest.mark.parametrize("collects", [True, False])
def test_uncollected_when_objects_come_then_the_collector_waits_and_passes_over_them(collects: bool) -> None:
    before = gc.get_freeze_count()
    if not collects:
        gc.disable()
    try:
        with without_garbage_collection():
            assert not gc.isenabled()
            made = [[number] for number in range(100)]
        assert gc.isenabled() is collects
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()
        gc.enable()
