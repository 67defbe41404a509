"""Attackers: each is the network, on the frames, that its row says; what it is scored by; what is said about it."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_model
from test_experiments import TINY, steps, study

from spact_lib import ahead, attack_report, attacks, baselines, config, data, metrics, reconstruction, target, training
from spact_lib.chance import chance_average_precision
from spact_lib.channel import through_h264
from spact_lib.conditions import c1_c2
from spact_lib.errors import UserError
from spact_lib.experiments import Store, anonymized, manifest_of, predictions, to_uint8
from spact_lib.protocols import protocol
from spact_lib.study import METHODS, Study
from spact_lib.tables import label, trained_parts
from spact_lib.video import read_frames, write_video

METHODS_HERE = ("raw", "downsample_2x", "spact")
NAMES = [name for name in attacks.ATTACKS if name != "larger_long"]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attacks, "cores", lambda: 1)
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def one(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A tiny study; its targets look at validation rows twice."""
    found = study(tiny_csv, tmp_path_factory.mktemp("attacks"), TINY.model_copy(update={"target_seeds": (0,)}))
    return replace(found, profile=found.profile.model_copy(update={"init_f_A": steps(3, batch=3)}))


@pytest.fixture(scope="module")
def found(one: Study) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacks, "cores", lambda: 1)
        attacks.train([one], METHODS_HERE, NAMES)
    return attacks.table(one, methods=METHODS_HERE, names=NAMES)


# The channel.


@pytest.mark.parametrize("crf", [18, 40])
def test_h264_in_memory_is_what_a_file_gives_back(tmp_path: Path, crf: int) -> None:
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(0, 40, (7, 24, 32, 3)), axis=0).clip(0, 255).astype(np.uint8)
    file = write_video(tmp_path / "a.mp4", frames, 25, quality=crf, keyframe_every=250)
    assert np.array_equal(through_h264(frames, crf), read_frames(file, range(7)))


def test_h264_keeps_shapes_and_flat_grays_and_loses_more_at_a_higher_crf() -> None:
    for shape in ((1, 1, 1), (1, 5, 8), (3, 8, 11)):
        gray = np.full((*shape, 3), 97, np.uint8)
        assert np.array_equal(through_h264(gray, 23), gray)
    noise = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), dtype=np.uint8)
    errors = [np.square(through_h264(noise, crf).astype(float) - noise).mean() for crf in (10, 30, 50)]
    assert errors == sorted(errors) and 0 < errors[0] < errors[-1] / 1.5


def test_channels_of_a_release(one: Study, found: pd.DataFrame) -> None:
    """Float is what f_A computes, 8 bits are that rounded, and H.264 is made of the 8-bit frames of each row."""
    spec = one.release(one.method("spact"), one.protocol.privacy)
    f_A = one.store.load_anonymizer(spec.method)
    sources = {c: one.store.release(spec.model_copy(update={"channel": c})) for c in ("uint8", "float", "h264")}
    raw = one.store.frames(spec.frames)[0]
    for row in (0, 10):
        every = np.arange(raw.n_frames(row))
        out = anonymized(f_A, raw.read(row, every), "bfloat16")
        assert np.allclose(sources["float"].read(row, every), 255 * out.permute(0, 2, 3, 1).numpy(), atol=1e-4)
        assert np.array_equal(sources["uint8"].read(row, every), to_uint8(out))
        assert np.array_equal(sources["h264"].read(row, every), through_h264(to_uint8(out), 23))
    assert sources["float"].read(0, np.arange(2)).dtype == np.float32


def test_float_frames_reach_a_network_unrounded(one: Study, found: pd.DataFrame) -> None:
    spec = attacks.spec_of(one, "float", one.method("spact"), 0)
    source, view = one.store.release(spec.release), spec.view
    batch = next(iter(data.test_batches(data.ClipDataset(source, np.array([0]), None, view), 2)))
    seen = data.to_float(batch, torch.device("cpu"))["clip"][0, 0]
    whole = torch.from_numpy(source.read(0, np.array([0])))[0].permute(2, 0, 1) / 255
    expected = data.centre_crop(*whole.shape[1:], view)
    assert torch.allclose(seen, whole[:, :, expected.left : expected.left + view.size], atol=1e-6)
    assert (255 * seen % 1 > 0.01).any()


# The attackers.


def test_each_attacker_differs_from_that_of_the_tables_by_what_its_row_says(one: Study) -> None:
    method, p = one.method("downsample_2x"), one.profile
    own = attacks.spec_of(one, "own", method, 0)
    assert own.key() == one.target_spec(method, "privacy", 0).key()

    def differs(name: str) -> dict:
        spec = attacks.spec_of(one, name, method, 0)
        return {k: getattr(spec, k) for k in type(spec).model_fields if getattr(spec, k) != getattr(own, k)}

    n = p.target_privacy.steps
    assert {k: v.steps for k, v in differs("long").items()} == {"schedule": 4 * n}
    assert {k: v.steps for k, v in differs("short").items()} == {"schedule": n // 4}
    assert differs("larger") == {"network": p.larger_f_B} and set(differs("smaller_short")) == {"network", "schedule"}
    assert differs("smaller_short")["network"] == p.smaller_f_B
    assert {k: v.channel for k, v in differs("float").items()} == {"release": "float"}
    assert {k: (v.channel, v.crf) for k, v in differs("h264").items()} == {"release": ("h264", 23)}
    raw = attacks.RAW
    assert attacks.spec_of(one, "float", raw, 0) == attacks.spec_of(one, "own", raw, 0)  # raw frames have 8 bits
    assert attacks.spec_of(one, "h264", raw, 0).release.channel == "h264"
    clips = attacks.spec_of(one, "clips", method, 0)
    assert (clips.network, clips.view.n_frames, clips.view.size) == (p.video_f_B, p.action_view.n_frames, 8)
    assert clips.schedule == p.target_action
    unprepared, inverted = (attacks.spec_of(one, name, method, 0) for name in ("unprepared", "inverted"))
    for spec in (unprepared, inverted):
        assert spec.target == attacks.spec_of(one, "own", raw, 0)
    assert unprepared.release == own.release and inverted.release.method.victim == method
    assert attacks.spec_of(one, "inverted", raw, 0) == attacks.spec_of(one, "unprepared", raw, 0)


def test_video_attackers_learn_labels_of_the_videos_from_the_release_of_the_actions(one: Study) -> None:
    mini = config.profile("mini")
    names = ("ucf101", "vp_ucf101", "vispr")
    listed = {name: config.DataSpec(name=name, folder=Path("none"), fingerprint=name) for name in names}
    reading = Study(mini, protocol("ucf101_vispr1"), Store(one.store.root, read_only=True), _data=listed)
    for name in ("frame", "views", "video", "clips"):
        spec = attacks.spec_of(reading, name, attacks.RAW, 0)
        trained = spec.target if isinstance(spec, config.TestSpec) else spec
        assert trained.data.name == "vp_ucf101" and trained.task == "vp_attributes"
        assert trained.release.frames.data.name == "ucf101"  # which is there already
    one_frame, all_frames = (attacks.spec_of(reading, name, attacks.RAW, 0) for name in ("frame", "video"))
    assert one_frame == all_frames and [each.per for each in one_frame.scores] == ["frame", "video"]


def test_labels_of_other_videos_are_refused(one: Study, tiny_csv: Path, tmp_path: Path) -> None:
    other = data_folder(tiny_csv, tmp_path)
    role = one.protocol.action
    with pytest.raises(UserError, match="does not list the rows of"):
        attacks._refuse_other_rows(other, one.data(role))
    attacks._refuse_other_rows(one.data(role), one.data(role))


def data_folder(tiny_csv: Path, tmp_path: Path) -> config.DataSpec:
    """The tiny dataset with two rows exchanged."""
    lines = tiny_csv.read_text().splitlines()
    (tmp_path / "other.csv").write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n")
    return config.DataSpec(name="other", folder=tmp_path / "other.csv", fingerprint="other")


def test_scores_and_chance_lines(one: Study, found: pd.DataFrame) -> None:
    assert list(found.index) == [(a, m) for a in NAMES for m in METHODS_HERE]
    manifest = manifest_of(one.data(one.protocol.privacy))
    labels = manifest.labels("attributes")
    rows = data.rows_of(manifest, "test")
    line = 100 * np.mean([chance_average_precision(m, len(rows)) for m in labels[rows].sum(0) if m])
    assert np.allclose(found["chance"].drop("frame"), line)
    unprepared = c1_c2(one, "spact").loc[("privacy cMAP", label("raw"), label("spact"))]
    assert found.loc[("unprepared", "spact"), "here"] == pytest.approx(unprepared["here"])
    assert found.loc[("unprepared", "raw"), "here"] == pytest.approx(found.loc[("own", "raw"), "here"])
    assert found["val"].notna().groupby(level="attack").all().drop(["unprepared", "inverted", "frame", "video"]).all()
    effort = found["effort"].xs("spact", level="method")
    assert (effort["short"], effort["own"], effort["long"]) == (0.25, 1, 4) and effort["larger"] > 2
    assert math.isnan(effort["unprepared"]) and effort["smaller_short"] < 0.25
    assert (found["replicates"] == 1).all() and found["low"].isna().all()


def test_all_frames_of_a_video_are_averaged(one: Study, found: pd.DataFrame) -> None:
    """By hand: every frame of every test video through the saved network."""
    spec = attacks.spec_of(one, "video", one.method("spact"), 0)
    task, manifest = spec.target.task, manifest_of(spec.data)
    network, _ = target.build_target(spec.target.network, 2)
    load_model(network, one.store.files(spec.target) / "network.safetensors")
    source, rows, means, frames, of_frames = one.store.release(spec.release), data.rows_of(manifest, "test"), [], [], []
    for row in rows:
        x = torch.from_numpy(source.read(row, np.arange(source.n_frames(row)))).permute(0, 3, 1, 2)
        side, w = x.shape[2], x.shape[3]
        x = x[..., (w - side) // 2 :][..., :side].float() / 255
        with torch.no_grad():
            p = network.eval()(x[:, None]).sigmoid()
        means.append(p.mean(0))
        frames.append(p)
        of_frames += [row] * len(p)
    labels = torch.from_numpy(manifest.labels(task))
    video = metrics.score(torch.stack(means), labels[rows])["cmap"]
    frame = metrics.score(torch.cat(frames), labels[of_frames])["cmap"]
    assert found.loc[("video", "spact"), "here"] == pytest.approx(video)
    assert found.loc[("frame", "spact"), "here"] == pytest.approx(frame)


def test_what_is_at_hand_is_read_and_nothing_trained(one: Study, found: pd.DataFrame) -> None:
    again = attacks.table(attacks.reading(one), methods=METHODS_HERE, names=NAMES)
    pd.testing.assert_frame_equal(again, found)
    more = attacks.table(attacks.reading(one), methods=[*METHODS_HERE, "supervised"], names=list(attacks.ATTACKS))
    assert set(more.index) == set(found.index)
    kinds = {part.kind for part in trained_parts(attacks.spec_of(one, "inverted", one.method("spact"), 0)).values()}
    assert {"reconstruction", "anonymizer", "target", "test"} <= kinds  # so that their records are kept


def test_replicates_are_averaged_with_an_interval(one: Study, found: pd.DataFrame) -> None:
    other = replace(one, seed=1)
    methods, names = ["raw"], ["own", "unprepared"]
    attacks.train([other], methods, names)
    both = attacks.table(one, other, other, methods=methods, names=names)
    each = [attacks.table(s, methods=methods, names=names)["here"] for s in (one, other)]
    assert np.allclose(both["here"], (each[0] + each[1]) / 2) and (both["replicates"] == 2).all()
    reach = 12.706 * (each[0] - each[1]).abs() / 2
    assert np.allclose(both["high"] - both["here"], reach, rtol=1e-3)


def test_wrong_names_are_refused_before_anything_is_trained(one: Study) -> None:
    for methods, names, sentence in ((["raw"], ["owm"], "attack 'owm'"), (["spakt"], ["own"], "method 'spakt'")):
        with pytest.raises(UserError, match=f"unknown {sentence}; choose one of: "):
            attacks.train([one], methods, names)


def test_a_method_that_cannot_be_trained_here_is_named(
    one: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse() -> None:
        raise UserError("no weights")

    monkeypatch.setattr("spact_lib.study.refuse_without_weights", refuse)
    assert attacks.trainable(one, ["raw", "obf_blackening"]) == ["raw"]
    assert "obf_blackening is left out: no weights" in capsys.readouterr().out


def test_two_processes_share_the_attackers(one: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is told what to do; here it is a thread's turn: everything is made once."""
    seen = []

    class Here:
        def __init__(self, profile, n, threads, devices, task):
            seen.append((n, task))

        def __enter__(self):
            seen[0][1]()

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(attacks, "cores", lambda: 2 * torch.get_num_threads())
    monkeypatch.setattr(attacks, "processes", Here)
    fresh = replace(one, store=Store(tmp_path, read_only=False))
    attacks.train([fresh], ["raw"], ["own", "short"])
    assert seen[0][0] == 1 and fresh.store.wait
    assert len(list((tmp_path / "target").glob("*/record.json"))) == 2


# Reconstruction.


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


def test_quality_beside_numpy(one: Study, found: pd.DataFrame) -> None:
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


def test_raw_and_released_frames_are_cropped_alike(one: Study, found: pd.DataFrame) -> None:
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


def test_pictures_of_reconstructions(one: Study, found: pd.DataFrame) -> None:
    shown = attacks.inverted(attacks.reading(one), METHODS_HERE)
    assert list(shown) == [
        "Raw data", "Downsample-2x", "Downsample-2x, inverted", "SPAct", "SPAct, inverted",
    ]  # fmt: skip
    quality = attacks.reconstructions(one, methods=METHODS_HERE)
    assert list(quality.index) == ["downsample_2x", "spact"] and quality.notna().all(axis=None)


# Folds of one's own clips.


def test_folds_together(tiny_csv: Path, tmp_path: Path) -> None:
    own = f"{tiny_csv}:action/action"  # any single-label task
    tiny = TINY.model_copy(update={"target_seeds": (0,)})
    studies = [Study(tiny, protocol(own), Store(tmp_path), 0, ("split", value)) for value in ("val", "test")]
    names = ["own", "unprepared"]
    attacks.train(studies, ["raw"], names)
    together = attacks.fold_table(studies, ["raw"], names)
    hits, n = 0, 0
    for each in studies:
        probabilities, truth = predictions(each.target(attacks.RAW, "privacy", 0))
        hits, n = hits + int((probabilities.argmax(1) == truth).sum()), n + len(truth)
    row = together.loc[("own", "raw")]
    assert row["here"] == pytest.approx(100 * hits / n) and row["n"] == n and row["low"] <= row["here"] <= row["high"]
    reading = [attacks.reading(each) for each in studies]
    assert attacks.fold_table(reading, ["raw"], [*names, "long"]).equals(together)
    assert attacks.folds("smoke", "nowhere.csv:action/person", ["take", "1"], 0, train=False) == []
    nothing = attacks.fold_table([], ["raw"], names)
    assert "attacker" in repr(attack_report.Shown(nothing)) and attack_report.sentences(nothing) == ""


# What readers are told.


@pytest.fixture
def made_up() -> pd.DataFrame:
    """Two methods, four attackers: validation chooses the larger network for SPAct, which reads more than the own one
    and turns the order round; on test rows the short one is the best, which must not be looked at."""
    cells = {
        ("unprepared", "downsample_4x"): (30.0, math.nan), ("unprepared", "spact"): (26.0, math.nan),
        ("short", "downsample_4x"): (44.0, 43.0), ("short", "spact"): (70.0, 41.0),
        ("own", "downsample_4x"): (51.0, 52.0), ("own", "spact"): (48.0, 47.0),
        ("larger", "downsample_4x"): (49.0, 50.0), ("larger", "spact"): (55.0, 54.0),
        ("own", "raw"): (90.0, 91.0), ("float", "spact"): (51.0, 50.0), ("float", "raw"): (90.0, 91.0),
    }  # fmt: skip
    index = pd.MultiIndex.from_tuples(cells, names=["attack", "method"])
    here, val = zip(*cells.values(), strict=True)
    columns = {"here": here, "chance": 25.0, "val": val, "effort": 1.0, "replicates": 1, "low": math.nan}
    return pd.DataFrame(columns | {"high": math.nan, "boxes": ""}, index)


def test_validation_chooses_the_strongest(made_up: pd.DataFrame) -> None:
    assert attacks.strongest(made_up).to_dict() == {"downsample_4x": "own", "spact": "larger", "raw": "own"}


def test_sentences_are_the_numbers(made_up: pd.DataFrame) -> None:
    text = attack_report.sentences(made_up)
    assert (
        "SPAct: learned on raw 26.0, inverted first not run, tables' attacker 48.0, strongest by validation (larger "
        "network) 55.0, chance 25.0; 46 % of what raw data's strongest reads above chance." in text
    )
    assert "as far apart the other way round by the strongest ones: SPAct and Downsample-4x." in text
    nearer = made_up.assign(here=made_up["here"].where(made_up["here"] != 55, 52.5))  # not 2 points above the other
    assert "by the strongest ones: none." in attack_report.sentences(nearer)
    assert "8 bits instead of unrounded frames give the attacker, points: SPAct −3.0." in text


def test_the_table_has_a_chance_line_for_every_attacker(made_up: pd.DataFrame) -> None:
    text = attack_report.printable(made_up)
    assert list(text.columns) == ["effort", "chance", "Downsample-4x", "SPAct", "Raw data"]
    assert (text["chance"] == "25.0").all()
    assert text.loc["larger network"].to_dict() == {
        "effort": "1", "chance": "25.0", "Downsample-4x": "49.0", "SPAct": "55.0", "Raw data": "",
    }  # fmt: skip
    shown = attack_report.Shown(made_up.assign(low=40.0, high=60.0))
    assert "55.0 [40.0, 60.0]" in repr(shown) and "Replicates of a cell: 1. " in shown._repr_html_()


def test_the_figure_draws_these_numbers_and_the_chance_line(made_up: pd.DataFrame) -> None:
    fig = attack_report.curves(made_up)
    still, channel = fig.axes
    assert [tick.get_text() for tick in still.get_xticklabels()] == ["learned\non raw", "short", "tables'", "large"]
    assert [tick.get_text() for tick in channel.get_xticklabels()] == ["float", "8-bit"]
    lines = {c.get_label(): c.lines[0].get_ydata().tolist() for c in still.containers}
    assert lines["SPAct"] == [26, 70, 48, 55] and lines["Raw data"] == [90]
    chance = next(line for line in still.lines if line.get_label() == "chance")
    assert chance.get_ydata().tolist() == [25.0] * 4
    only = made_up.loc[["own"]]
    assert len(attack_report.curves(only).axes) == 1


def test_the_work_ahead_takes_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(ahead, "work", lambda profile: done.append(profile))
    monkeypatch.setattr(ahead.multiprocessing, "parent_process", lambda: None)
    monkeypatch.setattr(ahead.threading, "Thread", lambda **_: type("Idle", (), {"start": lambda self: None})())
    monkeypatch.setattr(ahead.signal, "signal", lambda *_: None)
    ahead._work_in_child("smoke", lambda: done.append("task"))
    ahead._work_in_child("smoke", None)
    assert done == ["task", "smoke"]
