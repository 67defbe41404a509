import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from spact_lib import data
from spact_lib.config import View
from spact_lib.data import (
    ClipDataset,
    Crop,
    StepSampler,
    all_frames,
    apply_colours,
    draw_colours,
    loader_workers,
    random_crop,
    rows_of,
    test_batches,
    to_float,
    training_batches,
    waited,
)
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest
from spact_lib.training import Run

test_batches.__test__ = False  # a function of ours, not a test
VIEW = View(stored_side=16, size=12, n_frames=4, stride=2, crop=(0.5, 1.0), test_crop=1.0, flip=0.5, test_clips=3)
CPU = torch.device("cpu")
NEUTRAL = (1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


class Arrays:
    """Videos in memory."""

    def __init__(self, *videos: np.ndarray):
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def n_frames(self, row: int) -> int:
        return len(self.videos[row])

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        return self.videos[row][indices]


def numbered(n: int) -> np.ndarray:
    """A video whose pixels say which frame it is."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 16, 20, 3))


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 20, 3), dtype=np.uint8)


def numbers(frames: Tensor) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


# --- augmentation ---


@pytest.mark.parametrize("sampler", ["no_constraint", "less_than_8_frames"])
def test_a_clip_and_its_pair_are_cropped_and_coloured_alike(sampler: str) -> None:
    still = np.repeat(noise(1), 30, axis=0)
    dataset = ClipDataset(Arrays(still), [0], None, VIEW, sampler=sampler)
    seen = []
    for batch in training_batches(dataset, 1, 0, 12):
        batch = to_float(batch, CPU)
        frames = torch.cat([batch["clip"][0], batch["pair"][0]])
        assert frames.shape == (6, 3, 12, 12) and 0 <= frames.min() and frames.max() <= 1
        assert torch.allclose(frames, frames[:1].expand_as(frames), atol=1e-6)
        seen.append(frames[0])
    assert all((a - b).abs().max() > 0.01 for k, a in enumerate(seen) for b in seen[:k])  # every step anew


def test_samples_of_a_batch_are_augmented_differently() -> None:
    dataset = ClipDataset(Arrays(*[np.repeat(noise(1), 9, axis=0)] * 3), np.arange(3), None, VIEW)
    clips = to_float(next(iter(training_batches(dataset, 3, 0, 1))), CPU)["clip"]
    assert all((clips[i] - clips[j]).abs().max() > 0.05 for i, j in [(0, 1), (0, 2), (1, 2)])


def coloured(clips: Tensor, **changes: float) -> Tensor:
    names = ["contrast", "saturation", "brightness", "hue", "gray", "gamma", "top", "left", "height", "width"]
    values = dict(zip(names, NEUTRAL, strict=True)) | changes
    return apply_colours(clips, torch.tensor([list(values.values())] * len(clips)))


CLIPS = torch.from_numpy(noise(8)).permute(0, 3, 1, 2).float().div(255).unflatten(0, (2, 4))  # (2, 4, 3, 16, 20)


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("name", ["brightness", "saturation", "gamma"])
def test_colours_agree_with_torchvision(name: str, factor: float) -> None:
    expected = getattr(TF, f"adjust_{name}")(CLIPS, factor)
    torch.testing.assert_close(coloured(CLIPS, **{name: factor}), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_contrast_agrees_with_torchvision_on_the_whole_clip(factor: float) -> None:
    # The mean is the clip's: all its frames side by side as one picture.
    wide = CLIPS.permute(0, 2, 3, 1, 4).flatten(3)  # (B, T, 3, H, W) -> (B, 3, H, T*W)
    expected = TF.adjust_contrast(wide, factor).unflatten(3, (4, 20)).permute(0, 3, 1, 2, 4)
    torch.testing.assert_close(coloured(CLIPS, contrast=factor), expected, atol=1e-3, rtol=0)


def test_gray_agrees_with_torchvision() -> None:
    expected = TF.rgb_to_grayscale(CLIPS, num_output_channels=3)
    torch.testing.assert_close(coloured(CLIPS, gray=1.0), expected, atol=1e-3, rtol=0)


def test_hue_turns_about_the_gray_axis() -> None:
    gray = CLIPS[:, :, :1].expand_as(CLIPS)
    torch.testing.assert_close(coloured(gray, hue=0.05), gray, atol=1e-5, rtol=0)
    torch.testing.assert_close(coloured(CLIPS, hue=1 / 3), CLIPS.roll(1, dims=2), atol=1e-5, rtol=0)  # red to green


def test_neutral_parameters_change_nothing_and_the_box_is_erased() -> None:
    torch.testing.assert_close(coloured(CLIPS), CLIPS, atol=1e-5, rtol=0)
    expected = CLIPS.clone()
    expected[:, :, :, 4:8, 5:15] = 0  # of 16 x 20
    got = coloured(CLIPS, top=0.25, left=0.25, height=0.25, width=0.5)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_every_sample_has_its_own_parameters() -> None:
    parameters = torch.tensor([[0.9, *NEUTRAL[1:]], [1.0, 1.0, 1.1, *NEUTRAL[3:]]])
    got = apply_colours(CLIPS, parameters)
    torch.testing.assert_close(got[:1], coloured(CLIPS[:1], contrast=0.9))
    torch.testing.assert_close(got[1:], coloured(CLIPS[1:], brightness=1.1))


def test_drawn_colours_keep_to_the_official_ranges() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_colours(VIEW, rng) for _ in range(2000)])
    lowest, highest = drawn.min(0), drawn.max(0)
    assert np.allclose(lowest[:6], [0.9, 0.9, 0.9, -0.05, 0, 0.85], atol=0.002)
    assert np.allclose(highest[:6], [1.1, 1.1, 1.1, 0.05, 1, 1.15], atol=0.002)
    assert 0.08 < drawn[:, 4].mean() < 0.12  # gray
    assert np.allclose(highest[8:], 18 / 112, atol=0.002) and (drawn[:, 6:8] + drawn[:, 8:] <= 1 + 1e-6).all()


def test_random_crops_are_squares_inside_the_frame() -> None:
    rng = np.random.default_rng(0)
    crops = [random_crop(16, 20, VIEW, rng) for _ in range(800)]
    assert {c.side for c in crops} == set(range(8, 17))
    assert all(0 <= c.top <= 16 - c.side and 0 <= c.left <= 20 - c.side for c in crops)
    assert {c.left for c in crops if c.side == 16} == {0, 1, 2, 3, 4}
    assert 0.4 < np.mean([c.mirrored for c in crops]) < 0.6
    assert not any(random_crop(16, 20, VIEW.model_copy(update={"flip": 0.0}), rng).mirrored for _ in range(50))


def test_a_crop_takes_its_square_and_mirrors_it() -> None:
    frames = noise(2)
    expected = torch.from_numpy(frames[:, 2:10, 5:13]).permute(0, 3, 1, 2)
    assert torch.equal(Crop(2, 5, 8, False)(frames, 8), expected)
    assert torch.equal(Crop(2, 5, 8, True)(frames, 8), expected.flip(3))
    assert Crop(2, 5, 8, False)(frames, 12).shape == (2, 3, 12, 12)


# --- which frames ---


def clips_of(dataset: ClipDataset) -> list[list[int]]:
    return [numbers(clip) for batch in test_batches(dataset, 4) for clip in batch["clip"]]


def test_test_clips_are_evenly_spaced_and_not_augmented() -> None:
    dataset = ClipDataset(Arrays(numbered(21), numbered(11)), [0, 1], None, VIEW, sampler="no_constraint")
    starts = [0, 7, 14, 0, 2, 4]  # the last clip ends with the last frame
    assert clips_of(dataset) == [[k, k + 2, k + 4, k + 6] for k in starts]
    assert set(dataset[0, 0]) == {"clip"}


@pytest.mark.parametrize(("n", "expected"), [(7, [0, 2, 4, 6]), (5, [0, 2, 4, 1]), (2, [0] * 4), (1, [0] * 4)])
def test_a_short_video_is_looped(n: int, expected: list[int]) -> None:
    dataset = ClipDataset(Arrays(numbered(n)), [0], None, VIEW, sampler="no_constraint")
    assert clips_of(dataset) == [expected] * (1 if n == 1 else 3)  # stills have one view
    assert all(numbers(dataset[0, step, 0]["clip"]) == expected for step in range(5))


def test_training_clips_begin_anywhere_and_pairs_come_from_the_whole_video() -> None:
    dataset = ClipDataset(Arrays(numbered(12)), [0], None, VIEW, sampler="no_constraint")
    samples = [dataset[0, step, 0] for step in range(300)]
    assert {tuple(numbers(s["clip"])) for s in samples} == {(k, k + 2, k + 4, k + 6) for k in range(6)}
    pairs = {tuple(numbers(s["pair"])) for s in samples}
    assert {i for pair in pairs for i in pair} == set(range(12)) and all(i != j for i, j in pairs)


def test_a_pair_of_clips_lies_within_the_video_and_a_short_video_is_looped() -> None:
    dataset = ClipDataset(Arrays(numbered(12)), [0], None, VIEW, sampler="no_constraint", pair_frames=3)
    pairs = [numbers(dataset[0, step, 0]["pair"]) for step in range(300)]
    assert all(b == a + 2 and c == a + 4 for pair in pairs for a, b, c in (pair[:3], pair[3:]))
    assert {pair[k] for pair in pairs for k in (0, 3)} == set(range(8)) and all(pair[0] != pair[3] for pair in pairs)
    short = ClipDataset(Arrays(numbered(3)), [0], None, VIEW, sampler="no_constraint", pair_frames=3)
    assert numbers(short[0, 0, 0]["pair"]) == [0, 2, 1, 0, 2, 1]


def test_labels_belong_to_their_rows() -> None:
    source = Arrays(*[np.full((4, 16, 16, 3), 10 * k, np.uint8) for k in range(5)])
    dataset = ClipDataset(source, [3, 1], np.arange(5) + 100, VIEW)
    samples = [dataset[k, 0] for k in (0, 1)]
    assert [(s["clip"].max().item(), s["label"].item()) for s in samples] == [(30, 103), (10, 101)]


# --- batches ---


def mixed(seed: int = 0) -> ClipDataset:
    videos = [noise(5 + k, seed=k) for k in range(7)]
    return ClipDataset(Arrays(*videos), np.arange(7), np.arange(7), VIEW, seed=seed, sampler="no_constraint")


def assert_same(one: Iterator[dict], other: Iterator[dict]) -> None:
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b) == {"clip", "pair", "colours", "label"}
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    all_, resumed = (list(training_batches(mixed(), 3, first, 7)) for first in (0, 4))
    assert len(all_) == 7 and len(resumed) == 3
    torch.manual_seed(99)
    assert_same(all_[4:], resumed)
    assert not torch.equal(next(iter(training_batches(mixed(1), 3, 0, 1)))["clip"], all_[0]["clip"])


def test_workers_change_nothing() -> None:
    assert_same(training_batches(mixed(), 3, 0, 5, workers=2), training_batches(mixed(), 3, 0, 5))


@pytest.mark.parametrize(("n", "batch", "per_epoch"), [(7, 3, 2), (6, 3, 2), (5, 9, 1), (4, 1, 4)])
def test_a_batch_has_no_row_twice_and_an_epoch_every_row_once(n: int, batch: int, per_epoch: int) -> None:
    batches = list(StepSampler(n, batch, 0, 0, 40 * per_epoch))
    size, orders, left_out = min(n, batch), set(), set(range(n))
    for epoch in range(40):
        rows = [row for keys in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for row, *_ in keys]
        assert len(set(rows)) == len(rows) == per_epoch * size
        orders.add(tuple(rows))
        left_out &= set(range(n)) - set(rows)
    assert len(orders) > 10 and not left_out  # shuffled anew; nobody is left out for ever
    assert all([(step, k) for _, step, k in keys] == [(s, k) for k in range(size)] for s, keys in enumerate(batches))


# --- files ---


def test_pairs_alone_are_those_beside_clips_and_nothing_else_is_read() -> None:
    class Counted(Arrays):
        read_frames = 0

        def read(self, row: int, indices: np.ndarray) -> np.ndarray:
            Counted.read_frames += len(indices)
            return super().read(row, indices)

    for frames in (1, 4):
        settings = {"seed": 3, "sampler": "no_constraint", "pair_frames": frames}
        source = Counted(noise(30), noise(9, seed=1))
        beside, alone = (ClipDataset(source, [0, 1], None, VIEW, clips=clips, **settings) for clips in (True, False))
        for key in ((0, 0, 0), (1, 0, 1), (1, 7, 0)):
            both = beside[key]
            before = Counted.read_frames
            pair = alone[key]
            assert Counted.read_frames - before == 2 * frames and set(both) - set(pair) == {"clip"}
            assert all(torch.equal(value, both[name]) for name, value in pair.items())


def test_all_frames_are_read_in_order_with_workers_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "AHEAD", 5)  # of which the whole threes
    source = Arrays(noise(7), noise(0), noise(3)[:, :10], noise(5))
    rows = np.array([0, 1, 2, 3])
    for workers in (0, 2):
        found = [(row, numbers.tolist(), frames) for row, numbers, frames in all_frames(source, rows, 3, workers)]
        assert [(row, numbers) for row, numbers, _ in found] == [
            (0, [0, 1, 2]), (0, [3, 4, 5]), (0, [6]), (2, [0, 1, 2]), (3, [0, 1, 2]), (3, [3, 4]),
        ]  # fmt: skip
        assert all(np.array_equal(frames, source.videos[row][numbers]) for row, numbers, frames in found)


def test_a_file_that_a_worker_cannot_read_is_one_sentence() -> None:
    class Broken(Arrays):
        def read(self, row: int, indices: np.ndarray) -> np.ndarray:
            raise UserError("cannot read a\nb.avi: it is cut off; replace it")

    for workers in (0, 1):
        with pytest.raises(UserError, match="^cannot read a\nb.avi: it is cut off; replace it$"):
            next(iter(training_batches(ClipDataset(Broken(noise(9)), [0], None, VIEW), 1, 0, 3, workers)))


def test_waiting_for_batches_is_counted(tmp_path: Path) -> None:
    class Slow(Arrays):
        def read(self, row: int, indices: np.ndarray) -> np.ndarray:
            time.sleep(0.05)
            return super().read(row, indices)

    dataset, before = ClipDataset(Slow(noise(9)), [0], None, VIEW), waited()
    for _ in training_batches(dataset, 1, 0, 3):
        time.sleep(0.2)  # what the reader does meanwhile does not count
    assert 0.15 <= waited() - before < 0.55
    run = Run(tmp_path, {}, {})
    next(iter(training_batches(dataset, 1, 0, 1)))
    run.save()
    again = Run(tmp_path, {}, {})
    assert 0.05 <= again.course["waited"] < 0.25 and again.course["seconds"] == run.seconds


@pytest.mark.parametrize(
    ("at_most", "cores", "gpus", "expected"), [(0, 16, 1, 0), (8, 2, 0, 1), (8, 1, 1, 1), (8, 64, 1, 8), (8, 16, 4, 3)]
)
def test_loaders_leave_room_for_training(
    monkeypatch: pytest.MonkeyPatch, at_most: int, cores: int, gpus: int, expected: int
) -> None:
    monkeypatch.setattr(data, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert loader_workers(at_most) == expected


def test_a_split_without_rows_is_refused_except_val(tiny_csv: Path) -> None:
    manifest = read_manifest(tiny_csv)
    assert rows_of(manifest, "val").tolist() == [6, 7]
    no_tests = manifest.select("train")
    assert rows_of(no_tests, "val").tolist() == []
    with pytest.raises(UserError, match="'tiny' has no row of split 'test'; add some to its manifest$"):
        rows_of(no_tests, "test")
    official = replace(manifest.select("test"), name="phvu")
    again = "get the official files that have some, and prepare again: `spact prepare phvu --root DIR`; to get P-HVU: "
    with pytest.raises(UserError, match=f"'phvu' has no row of split 'train'; {again}HVU_Train"):
        rows_of(official, "train")
