from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from spact_lib.frame_sampling import FRAME_SAMPLERS, sample_pair


def count_pairs(n_frames: int, draws: int, *limits: int | None) -> Counter:
    rng = np.random.default_rng(0)
    return Counter(tuple(sample_pair(n_frames, rng, *limits).tolist()) for _ in range(draws))


@pytest.mark.parametrize("limits", [(1, None), (1, 2), (2, 4), (4, None), (5, 5)])
def test_uniform_over_exactly_the_legal_ordered_pairs(limits: tuple[int, int | None]) -> None:
    n, low, high = 6, limits[0], limits[1] or 5
    legal = {pair for pair in permutations(range(n), 2) if low <= abs(pair[0] - pair[1]) <= high}
    mean = 400
    counts = count_pairs(n, mean * len(legal), *limits)
    assert set(counts) == legal
    # 5 standard deviations of a binomial count; uniform distances instead of pairs would be off by 50 and more.
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values()), counts


@pytest.mark.parametrize(
    ("sampler", "smallest", "largest"),
    [("no_constraint", 1, 199), ("more_than_64_frames", 65, 199), ("less_than_8_frames", 1, 7)],
)
def test_the_samplers_of_table_4(sampler: str, smallest: int, largest: int) -> None:
    rng = np.random.default_rng(1)
    found = np.array([sample_pair(200, rng, *FRAME_SAMPLERS[sampler]) for _ in range(2000)])
    distances = abs(found[:, 0] - found[:, 1])
    assert found.min() >= 0 and found.max() < 200
    assert distances.min() >= smallest and distances.max() <= largest
    assert distances.min() < smallest + 5 and (largest > 7 or distances.max() == 7)


@pytest.mark.parametrize(
    ("sampler", "n_frames", "distances"),
    [
        ("no_constraint", 12, range(1, 12)),
        ("more_than_64_frames", 70, range(65, 70)),
        ("less_than_8_frames", 12, range(1, 8)),
    ],
)
def test_exactly_the_distances_of_table_4_occur(sampler: str, n_frames: int, distances: range) -> None:
    found = {abs(a - b) for a, b in count_pairs(n_frames, 1000, *FRAME_SAMPLERS[sampler])}
    assert found == set(distances)


@pytest.mark.parametrize("n_frames", [2, 20, 65])
def test_a_video_too_short_for_far_pairs_gives_its_ends(n_frames: int) -> None:
    ends = {(0, n_frames - 1), (n_frames - 1, 0)}
    assert set(count_pairs(n_frames, 50, *FRAME_SAMPLERS["more_than_64_frames"])) == ends


def test_one_frame_more_allows_the_first_far_pair() -> None:
    assert set(count_pairs(66, 50, *FRAME_SAMPLERS["more_than_64_frames"])) == {(0, 65), (65, 0)}


@pytest.mark.parametrize("sampler", FRAME_SAMPLERS)
def test_one_frame_is_given_twice(sampler: str) -> None:
    assert set(count_pairs(1, 5, *FRAME_SAMPLERS[sampler])) == {(0, 0)}
