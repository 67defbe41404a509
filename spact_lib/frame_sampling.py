"""S_F, the temporal frame sampler: which two frames of a video form a positive pair (Sec. 3.2.2, Table 4)."""

import numpy as np

# Table 4: name -> (smallest, largest distance between the two frames); None: as far as the video goes.
FRAME_SAMPLERS: dict[str, tuple[int, int | None]] = {
    "no_constraint": (1, None),
    "more_than_64_frames": (65, None),
    "less_than_8_frames": (1, 7),
}


def sample_pair(n_frames: int, rng: np.random.Generator, smallest: int, largest: int | None) -> np.ndarray:
    """Two frame indices, uniform over all ordered pairs whose distance lies in [smallest, largest].

    A video too short for ``smallest`` gives its most distant pair, so that no video is lost; one frame gives it twice.

    Args:
        n_frames: length of the video, at least 1.

    Returns:
        int64 (2,), in random order.
    """
    furthest = n_frames - 1
    largest = furthest if largest is None else min(largest, furthest)
    smallest = min(smallest, largest)
    # n_frames - d pairs have distance d, so uniform over pairs is not uniform over distances.
    distances = np.arange(smallest, largest + 1)
    weights = n_frames - distances
    distance = rng.choice(distances, p=weights / weights.sum())
    first = rng.integers(n_frames - distance)
    return rng.permutation(np.array([first, first + distance]))
