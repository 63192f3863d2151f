"""Freed memory goes back to the system after what is kept was replaced, and not too often."""

import time

from serving.memory import Trimmer


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
