"""The attacker who inverts: what g learns from, and how near it comes to the raw frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, steps, study

from spact_lib import attacks, baselines, config, data, reconstruction, training
from spact_lib.methods import METHODS
from spact_lib.store import Store, manifest_of
from spact_lib.study import Study


@pytest.fixture(scope="module")
def one(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    profile = TINY.model_copy(update={"target_seeds": (0,), "init_f_A": steps(3, batch=3)})
    return study(tiny_csv, tmp_path_factory.mktemp("inverses"), profile)


def negative(frames: torch.Tensor) -> torch.Tensor:
    return 1 - frames


def test_an_invertible_method_is_inverted_from_train_rows_alone(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(baselines.BASELINES, "negative", negative)
    monkeypatch.setitem(METHODS, "negative", "baseline")
    longer = config.Schedule(steps=60, batch=6, lr=1e-2, one_cycle=True)
    one = study(tiny_csv, tmp_path, TINY.model_copy(update={"init_f_A": longer, "precision": "float32"}))
    spec = attacks.inverse(one, one.method("negative"), one.protocol.privacy)
    read: list[int] = []  # rows, before anything is measured
    whole, measure, learning = reconstruction.Pairs.read, reconstruction.quality, [True]

    def reading(self: reconstruction.Pairs, row: int, indices: np.ndarray) -> np.ndarray:
        read.extend([row] * learning[0])
        return whole(self, row, indices)

    def measuring(*arguments: object) -> dict:
        learning[0] = False
        return measure(*arguments)

    monkeypatch.setattr(reconstruction.Pairs, "read", reading)
    monkeypatch.setattr(reconstruction, "quality", measuring)
    made = one.store.run(spec).metrics
    manifest = manifest_of(spec.data)
    assert set(manifest.rows["split"].iloc[read]) == {"train"}
    assert made["psnr"] > made["psnr_released"] + 5 and made["ssim"] > made["ssim_released"]
    frames = one.release(spec, one.protocol.privacy)
    raw, out = one.store.frames(frames.frames)[0], one.store.release(frames)
    row, every = int(data.rows_of(manifest, "test")[0]), np.arange(3)
    truth = raw.read(row, every).astype(int)
    assert np.abs(out.read(row, every) - truth).mean() < 0.7 * np.abs(255 - truth - truth).mean()


def test_quality_beside_numpy(one: Study) -> None:
    """Of the release itself and of the blind guess: frames that no network has touched."""
    spec = attacks.inverse(one, one.method("downsample_2x"), one.protocol.privacy)
    got, manifest, size = one.store.run(spec).metrics, manifest_of(spec.data), spec.view.size
    release = one.release(spec.victim, one.protocol.privacy)
    raw, small = one.store.frames(release.frames)[0], one.store.release(release)

    def views(source: data.FrameSource, split: str, enlarge: bool = False) -> np.ndarray:
        frames = []
        for row in data.rows_of(manifest, split):
            last = raw.n_frames(row) - 1
            x = source.read(row, np.linspace(0, last, spec.view.test_clips).round().astype(int))
            h, w = raw.read(row, np.array([0])).shape[1:3]
            x = reconstruction.enlarged(x, h, w) if enlarge else x
            side = min(h, w)
            frames.append(x[:, (h - side) // 2 :, (w - side) // 2 :][:, :side, :side] / 255)
        return np.concatenate(frames)

    truth = views(raw, "test")
    assert truth.shape[1:3] == (size, size)

    def psnr(guess: np.ndarray) -> float:
        return float(np.mean(-10 * np.log10(np.square(guess - truth).mean((1, 2, 3)))))

    assert got["psnr_released"] == pytest.approx(psnr(views(small, "test", True)), abs=1e-3)
    assert got["psnr_blind"] == pytest.approx(psnr(views(raw, "train").mean(0)[None]), abs=1e-3)
    assert got["n_test"] == 3
    small_frames = small.read(0, np.arange(1))
    assert small_frames.shape[1] * 2 == raw.read(0, np.arange(1)).shape[1]
    same = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    assert reconstruction.enlarged(same, 4, 4) is same


def test_raw_and_released_frames_are_cropped_alike(one: Study) -> None:
    raw = one.store.frames(one.release(attacks.RAW, one.protocol.privacy).frames)[0]
    pairs = data.ClipDataset(reconstruction.Pairs(raw, raw), np.array([0, 1]), None, one.profile.privacy_view, seed=3)
    for step in range(4):
        a, b = pairs[0, step, 0]["clip"].split(3, dim=1)
        assert torch.equal(a, b)


def test_a_stopped_inversion_continues(one: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = attacks.inverse(one, one.method("downsample_2x"), one.protocol.privacy)
    whole = one.store.run(spec)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    log, store = training.Run.log, Store(tmp_path, read_only=False)

    def stopping(self: training.Run, step: int, **values: float) -> None:
        log(self, step, **values)
        if step == 1 and self.label == "reconstruction":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "log", stopping)
        with pytest.raises(KeyboardInterrupt):
            store.run(spec)
    again = store.run(spec)
    assert len((again.folder / "metrics.jsonl").read_text().splitlines()) == spec.schedule.steps
    same = [{k: v for k, v in a.metrics.items() if k != "seconds"} for a in (whole, again)]
    assert same[0] == same[1]
    weights = [(a.folder / "g.safetensors").read_bytes() for a in (whole, again)]
    assert weights[0] == weights[1]
