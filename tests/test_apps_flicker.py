"""Flicker of a release: what the input does not explain, and ``--steady``, which lowers it."""

from pathlib import Path

import numpy as np
import pytest

from spact_lib.apps.transcode import Steady, flicker, transcode
from spact_lib.video import read_frames, write_video


def test_flicker_is_what_the_input_does_not_explain() -> None:
    still = np.full((5, 8, 8, 3), 100, np.uint8)
    moving = np.random.default_rng(0).integers(0, 256, still.shape, dtype=np.uint8)
    trembling = still.copy()
    trembling[1::2] += 10
    assert flicker(moving, moving)[0] == 0 and flicker(moving, still)[0] == 0
    assert flicker(still, trembling) == (10, 0)
    assert flicker(trembling, still) == (0, 10)
    assert flicker(moving, moving // 2)[0] < 0.3  # halving the contrast is no flicker, but for rounding
    assert flicker(trembling, still[:, ::2, ::2]) == (0, 10)


def test_flicker_of_a_stream_is_that_of_the_whole(tmp_path: Path) -> None:
    moving = np.random.default_rng(0).integers(0, 256, (75, 16, 16, 3), dtype=np.uint8)
    source = write_video(tmp_path / "a.avi", moving, 25, "mpeg4")
    outputs: list[np.ndarray] = []

    def noisy(frames: np.ndarray) -> np.ndarray:
        outputs.append(np.random.default_rng(len(outputs)).integers(0, 256, frames.shape, dtype=np.uint8))
        return outputs[-1]

    result = transcode(source, tmp_path / "b.mp4", noisy)
    expected = flicker(read_frames(source, range(75)), np.concatenate(outputs[1:]))  # the first was asked for its size
    assert (result.flicker, result.change) == pytest.approx(expected)


def test_steady_averages_trembling_and_lets_motion_and_cuts_pass() -> None:
    trembling = np.full((30, 4, 4, 3), 100, np.uint8)
    trembling[1::2] += 8
    steady = Steady()(trembling)
    assert flicker(trembling[:1].repeat(30, 0), trembling)[0] == 8
    # Of two inputs in turn o <- o + g (i - o) comes to swing by 8 g / (2 - g); rounded, by a level more or less.
    swing = np.abs(np.diff(steady[20:].astype(int), axis=0)).mean()
    assert swing == pytest.approx(8 * Steady.GAIN / (2 - Steady.GAIN), abs=1)
    cut = np.concatenate([np.full((3, 4, 4, 3), 10, np.uint8), np.full((3, 4, 4, 3), 200, np.uint8)])
    assert np.array_equal(Steady()(cut), cut)
    noise = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    stream = Steady()
    assert np.array_equal(np.concatenate([stream(noise[:4]), stream(noise[4:5]), stream(noise[5:])]), Steady()(noise))


def test_a_steady_release_flickers_less(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", np.full((40, 32, 32, 3), 90, np.uint8), 25, "mpeg4")
    rng = np.random.default_rng(0)

    def noisy(frames: np.ndarray) -> np.ndarray:
        return rng.integers(80, 100, frames.shape, dtype=np.uint8)

    loose, steady = (transcode(source, tmp_path / "b.mp4", noisy, steady=on) for on in (False, True))
    assert 0 < steady.flicker < 0.4 * loose.flicker and steady.change == loose.change
