from pipelines.benches.tokens import bench_tokens


def test_bench_when_catalogues_are_small_then_it_times_three_ways_that_find_the_same_items() -> None:
    lines = bench_tokens((50, 400))
    assert [line.what for line in lines if line.unit == "share"] == [
        f"pruned sums, {items} items: share of the best ten" for items in (50, 400)
    ]
    assert all(line.ours == 1.0 for line in lines if line.unit == "share")
    assert all(line.ratio and line.ratio > 0 for line in lines if line.unit == "ms")
