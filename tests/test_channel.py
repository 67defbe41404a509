"""H.264 in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spact_lib.channel import through_h264
from spact_lib.video import read_frames, write_video


@pytest.mark.parametrize("crf", [18, 40])
def test_h264_in_memory_is_what_a_file_gives_back(tmp_path: Path, crf: int) -> None:
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(0, 40, (7, 24, 32, 3)), axis=0).clip(0, 255).astype(np.uint8)
    file = write_video(tmp_path / "a.mp4", frames, 25, quality=crf, keyframe_every=250)
    assert np.array_equal(list(through_h264(frames, crf)), read_frames(file, range(7)))


def test_h264_keeps_shapes_and_flat_grays_and_loses_more_at_a_higher_crf() -> None:
    for shape in ((1, 1, 1), (1, 5, 8), (3, 8, 11)):
        gray = np.full((*shape, 3), 97, np.uint8)
        assert np.array_equal(list(through_h264(gray, 23)), gray)
    noise = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), dtype=np.uint8)
    errors = [np.square(np.subtract(list(through_h264(noise, crf)), noise, dtype=float)).mean() for crf in (10, 30, 50)]
    assert errors == sorted(errors) and 0 < errors[0] < errors[-1] / 1.5


def test_an_h264_release_holds_few_frames_of_a_long_video_at_a_time() -> None:
    taken = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal taken
        for taken in range(1, 501):
            yield np.full((16, 16, 3), taken % 200, np.uint8)

    out = through_h264(frames(), 23)
    next(out)
    assert taken < 100 and sum(1 for _ in out) == 499
