"""Attackers: each is the network, on the frames, that its row says, and what it is scored by."""

import json
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
from pydantic import ValidationError
from safetensors.torch import load_model
from tiny import TINY, steps, study

from spact_lib import (
    ahead,
    attack_readings,
    attack_report,
    attacks,
    config,
    data,
    metrics,
    plan,
    tables,
    target,
)
from spact_lib.attacks import Attack
from spact_lib.chance import chance_average_precision
from spact_lib.channel import through_h264
from spact_lib.conditions import c1_c2
from spact_lib.errors import UserError
from spact_lib.experiments import anonymized, predictions, to_uint8
from spact_lib.methods import METHODS
from spact_lib.protocols import Role, known, protocol
from spact_lib.store import Store, manifest_of, trained_parts
from spact_lib.study import Study
from spact_lib.tables import label

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
    return attack_readings.readings(one, methods=METHODS_HERE, names=NAMES)


@pytest.fixture(scope="module")
def cells(found: pd.DataFrame) -> pd.DataFrame:
    return attack_readings.table(found)


def test_an_attacker_that_cannot_be_is_refused_before_anything_is_trained(
    one: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"channel": "H264"}, {"length": 0}, {"crf": 52}, {"inverts": True, "channel": "h264"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Attack("an attacker", **wrong)
    monkeypatch.setitem(attacks.ATTACKS, "bad", Attack("an attacker", network="larg"))
    with pytest.raises(UserError, match="unknown network of attack 'bad' 'larg'; choose one of: .*larger"):
        attacks.train([one], ["raw"], ["bad"])


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
        assert np.array_equal(sources["h264"].read(row, every), list(through_h264(to_uint8(out), 23)))
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
    method, p = one.method("identity"), one.profile
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
    video = attacks.spec_of(one, "h264_video", method, 0)
    assert (video.release.channel, video.release.crf) == ("h264", 18)  # as ``spact anonymize`` writes
    assert video.release.frames == one.release(method, one.protocol.action).frames
    raw = attacks.RAW
    assert attacks.spec_of(one, "h264", raw, 0).release.channel == "h264"
    clips = attacks.spec_of(one, "clips", method, 0)
    assert (clips.network, clips.view.n_frames, clips.view.size) == (p.video_f_B, p.action_view.n_frames, 16)
    assert clips.schedule == p.target_action
    unprepared, inverted = (attacks.spec_of(one, name, method, 0) for name in ("unprepared", "inverted"))
    for spec in (unprepared, inverted):
        assert spec.target == attacks.spec_of(one, "own", raw, 0)
    assert unprepared.release == own.release and inverted.release.method.victim == method
    relearned = attacks.spec_of(one, "relearned", method, 0)
    assert relearned == own.model_copy(update={"release": inverted.release})  # learns on what g makes of the release


def test_a_release_is_tested_as_it_is_sent(one: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is not what the attacker learned on: learned on raw data, or scored per frame and per video."""
    method = one.method("identity")
    for changes in ({"prepared": False}, {"of_videos": True, "per": "video"}, {"of_videos": True, "per": "frame"}):
        monkeypatch.setitem(attacks.ATTACKS, "bad_video", Attack("an attacker", channel="h264", crf=40, **changes))
        spec = attacks.spec_of(one, "bad_video", method, 0)
        for release in (spec.release, spec.target.release):
            assert (release.channel, release.crf) == ("h264", 40)
        monkeypatch.setitem(attacks.ATTACKS, "plain", Attack("an attacker", **changes))
        plain = attacks.spec_of(one, "plain", method, 0)
        assert plain.release.key() == one.release(method, one.protocol.privacy).key() != spec.release.key()


def test_who_enlarges_reads_small_frames_at_their_size_before(one: Study) -> None:
    """By all but the tables' attacker; what inverts enlarges by itself, and frames of full size are left alone."""
    small, up = one.method("downsample_2x"), config.BaselineSpec(name="downsample_2x_up")
    own, enlarged = (attacks.spec_of(one, name, small, 0) for name in ("own", "enlarged"))
    assert own.release.method == small and own.view.size * 2 == enlarged.view.size == one.profile.privacy_view.size
    assert enlarged.key() == one.target_spec(up, "privacy", 0).key()
    assert attacks.spec_of(one, "larger", small, 0).release.method == up
    assert attacks.spec_of(one, "unprepared", small, 0).release.method == up
    assert attacks.spec_of(one, "inverted", small, 0).release.method.victim == small
    whole = one.method("identity")
    assert attacks.spec_of(one, "enlarged", whole, 0) == attacks.spec_of(one, "own", whole, 0)


def test_every_method_meets_the_grid_as_far_as_its_attackers_are_of_its_own() -> None:
    assert set(attacks.FURTHER) <= set(attacks.METHODS) <= set(METHODS)
    for names in (attacks.GRID, *((*attacks.GRID, *more) for more in attacks.FURTHER.values())):
        assert {"unprepared", "inverted", "own"} < set(names) < set(attacks.ATTACKS) and len(set(names)) == len(names)
    assert {name for chains in attacks.PANELS.values() for chain in chains for name in chain} == set(attacks.ATTACKS)
    assert attacks.asked(["raw", "moco"], ["own", "inverted", "enlarged", "float"]) == [
        ("raw", "own"), ("moco", "own"), ("moco", "inverted"), ("moco", "float"),
    ]  # fmt: skip
    met = {method: [name for _, name in attacks.asked([method])] for method in attacks.METHODS}
    grid = set(attacks.GRID)
    assert set(met["raw"]) == grid - {"inverted", "enlarged", "float"}
    assert set(met["downsample_4x"]) == grid and set(met["supervised"]) == grid - {"enlarged"}
    assert set(met["spact"]) == grid - {"enlarged"} | {"relearned", "h264_video"}


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


def test_an_h264_release_of_any_quality_is_made_of_the_release_that_is_there(one: Study) -> None:
    method, action = one.method("spact"), one.protocol.action
    there = one.release(method, action).key()
    for crf in (18, 23):
        sent = one.release(method, action).model_copy(update={"channel": "h264", "crf": crf})
        assert sent.key() != there and sent.in_8_bits.key() == there
        assert there in [part.key() for part in plan.parts_of(sent)]


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


def test_videos_without_labels_are_left_out_of_the_grid_and_refused_by_name(
    one: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made = []
    monkeypatch.setattr(attacks, "whatever_is_free", lambda items, make: made.extend(name for _, _, name in items))
    monkeypatch.setattr(attacks, "videos", lambda study: replace(one.protocol.privacy, dataset="nowhere.csv"))
    attacks.train([one], ["identity"])
    stills = {name for name in attacks.GRID if attacks.exists(name, "identity") and not attacks.ATTACKS[name].of_videos}
    assert set(made) == stills and "frame is left out: " in capsys.readouterr().out
    with pytest.raises(UserError, match="nowhere.csv"):
        attacks.train([one], ["identity"], ["own", "frame"])


def test_scores_and_chance_lines(one: Study, cells: pd.DataFrame) -> None:
    found = cells
    assert list(found.index) == [(a, m) for a in NAMES for m in METHODS_HERE if attacks.exists(a, m)]
    manifest = manifest_of(one.data(one.protocol.privacy))
    labels = manifest.labels("attributes")
    rows = data.rows_of(manifest, "test")
    line = 100 * np.mean([chance_average_precision(m, len(rows)) for m in labels[rows].sum(0) if m])
    assert np.allclose(found["chance"].drop("frame", level="attack"), line)
    unprepared = c1_c2(one, "spact").loc[("privacy cMAP", label("raw"), label("spact"))]
    assert found.loc[("unprepared", "spact"), "here"] == pytest.approx(unprepared["here"])
    assert found.loc[("unprepared", "raw"), "here"] == pytest.approx(found.loc[("own", "raw"), "here"])
    assert found["val"].drop(["unprepared", "inverted", "frame", "video"], level="attack").notna().all()
    for method in ("spact", "downsample_2x"):  # on the same frames: at the size that he sees
        effort = found["effort"].xs(method, level="method")
        assert (effort["short"], effort["own"], effort["long"]) == (0.25, 1, 4) and effort["larger"] > 2
    assert effort["enlarged"] == 1
    assert math.isnan(effort["unprepared"]) and effort["smaller_short"] < 0.25
    assert (found["replicates"] == 1).all() and found["low"].isna().all()


def test_all_frames_of_a_video_are_averaged(one: Study, cells: pd.DataFrame) -> None:
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
    assert cells.loc[("video", "spact"), "here"] == pytest.approx(video)
    assert cells.loc[("frame", "spact"), "here"] == pytest.approx(frame)


def test_what_is_at_hand_is_read_and_nothing_trained(one: Study, found: pd.DataFrame) -> None:
    again = attack_readings.readings(tables.reading(one), methods=METHODS_HERE, names=NAMES)
    pd.testing.assert_frame_equal(again, found)
    more = attack_readings.readings(tables.reading(one), methods=[*METHODS_HERE, "supervised"])
    pd.testing.assert_frame_equal(more, found)
    kinds = {part.kind for part in trained_parts(attacks.spec_of(one, "inverted", one.method("spact"), 0)).values()}
    assert {"reconstruction", "anonymizer", "target", "test"} <= kinds  # so that their records are kept


def test_what_was_left_out_or_collapsed_stands_below_the_attackers(
    one: Study, found: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    shown = ["raw", "spact"], ["own", "inverted"]

    def everywhere(table: pd.DataFrame) -> list[str]:
        text, csv = attack_report.Shown(table, *shown), attack_report.save(table, *shown, "smoke", "attacks")
        return [repr(text), text._repr_html_(), csv.read_text(), csv.with_suffix(".tex").read_text()]

    said = ("Not a result", "Rows left out", ",note")
    assert not any(part in text for text in everywhere(found) for part in said)
    assert ["Chance: of a random ranking" in text for text in everywhere(found)] == [True, True, False, True]
    start, game = (one.store.files(spec) / "record.json" for spec in (one.init_f_A, one.method("spact")))
    records = {path: path.read_text() for path in (start, game)}
    for path, further in ((start, {"set_aside_of": {"tiny": {"train": 2}}}), (game, {"collapsed": True})):
        content = json.loads(records[path])
        path.write_text(json.dumps(content | {"metrics": content["metrics"] | further}))
    table = attack_readings.readings(tables.reading(one), methods=shown[0], names=shown[1])
    for path, text in records.items():
        path.write_text(text)
    for text in everywhere(table):
        assert "cannot be used: tiny 2 train." in text
        assert "hides the action too: SPAct of seed 0." in text  # nothing was drawn


def test_a_replicate_counts_by_its_committed_records_and_is_named_where_there_are_none(
    one: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Also where training is allowed: a fresh clone has no data of other draws."""
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    known = config.DataSpec(name="ucf101", folder=tmp_path / "none", fingerprint="of a record")
    monkeypatch.setattr("spact_lib.study.data_spec", lambda *_, **__: known)
    mini = replace(one, profile=config.profile("mini", draw=1))
    found = attack_readings.replicated(mini, "ucf101_vispr1", [[101, 1]], [])
    assert [study.profile.draw for study in found[1:]] == [101]
    assert found[1]._data["vp_ucf101"] == known  # asked for while training was forbidden
    monkeypatch.undo()
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    (alone,) = attack_readings.replicated(one, "ucf101_vispr1", [[7, 0]], [])
    assert "draw 7, seed 0 is left out: " in capsys.readouterr().out
    assert alone.init_f_A == one.init_f_A and alone.store.read_only


def test_a_replicate_with_fewer_attackers_of_a_method_is_left_out_of_it(one: Study, monkeypatch) -> None:
    def reading(study: Study, attack: str, name: str, method: object) -> dict | None:
        missing = (study.seed, attack, name) == (1, "short", "raw")
        return None if missing else {"attack": attack, "method": name, "replicate": study.seed}

    monkeypatch.setattr(attack_readings, "_reading", reading)
    methods, names = ["raw", "downsample_2x"], ["own", "short"]
    found = attack_readings.readings(one, replace(one, seed=1), methods=methods, names=names)
    assert found.groupby("method")["replicate"].agg(sorted).to_dict() == {"raw": [0, 0], "downsample_2x": [0, 0, 1, 1]}


def test_replicates_are_averaged_with_an_interval(one: Study, found: pd.DataFrame) -> None:
    other = replace(one, seed=1)
    methods, names = ["raw"], ["own", "unprepared"]
    attacks.train([other], methods, names)
    both = attack_readings.table(attack_readings.readings(one, other, other, methods=methods, names=names))
    each = [
        attack_readings.table(attack_readings.readings(s, methods=methods, names=names))["here"] for s in (one, other)
    ]
    assert np.allclose(both["here"], (each[0] + each[1]) / 2) and (both["replicates"] == 2).all()
    reach = 12.706 * (each[0] - each[1]).abs() / 2
    assert np.allclose(both["high"] - both["here"], reach, rtol=1e-3)


def test_wrong_names_are_refused_before_anything_is_trained(one: Study) -> None:
    for methods, names, sentence in ((["raw"], ["owm"], "attack 'owm'"), (["spakt"], ["own"], "method 'spakt'")):
        with pytest.raises(UserError, match=f"unknown {sentence}; choose one of: "):
            attacks.train([one], methods, names)


def test_a_protocol_that_names_nothing_to_read_is_refused(one: Study) -> None:
    """Also where what is not at hand is left out: it is no result that is missing."""
    targets = {name: one.protocol.targets["privacy"] for name in ("object", "scene")}
    other = replace(one, protocol=replace(one.protocol, targets=targets))
    for refused in (
        lambda: attacks.train([other], ["raw"], ["own"]),
        lambda: attack_readings.readings(tables.reading(other), methods=["raw"], names=["frame"]),
        lambda: attack_readings.reconstructions(tables.reading(other), methods=["identity"]),
        lambda: attack_readings.inverted(tables.reading(other), ["identity"]),
        lambda: attacks.spec_of(other, "own", attacks.RAW, 0),
    ):
        with pytest.raises(UserError, match="'privacy' learns, but the targets of this one are object, scene; choose"):
            refused()


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


# Pictures.


def test_pictures_of_reconstructions(one: Study, found: pd.DataFrame) -> None:
    shown = attack_readings.inverted(tables.reading(one), METHODS_HERE)
    assert list(shown) == [
        "Raw data", "Downsample-2x", "Downsample-2x, inverted", "SPAct", "SPAct, inverted",
    ]  # fmt: skip
    quality = attack_readings.reconstructions(one, methods=METHODS_HERE)
    aps = attack_readings.average_precisions(one, methods=METHODS_HERE)
    assert len(aps) == 3 * 2 and set(aps["method"]) == set(METHODS_HERE)
    of_spact = one.store.run(attacks.spec_of(one, "inverted", one.method("spact"), 0)).metrics["scores"][0]
    assert aps[aps["method"] == "spact"]["ap"].tolist() == pytest.approx(of_spact["ap"], nan_ok=True)
    assert aps[aps["method"] == "spact"]["chance"].mean() == pytest.approx(of_spact["cmap_chance"])
    by = attack_report.by_attribute(aps, METHODS_HERE)
    assert by.index[0] == "chance"
    assert list(by.loc["SPAct"]) == ["–" if math.isnan(ap) else f"{ap:.1f}" for ap in of_spact["ap"]]
    readings = attack_readings.readings(one, methods=["raw"], names=["own", "short"])
    specs = [attacks.spec_of(one, name, attacks.RAW, 0) for name in ("own", "short")]
    seconds = sum(one.store.run(spec).record["seconds"] for spec in specs)
    assert attack_readings.minutes(readings, one) == pytest.approx(seconds / 60)  # nobody else's, such as f'_T's
    assert list(quality["method"]) == ["downsample_2x", "spact"] and quality.notna().all(axis=None)
    other = quality.assign(replicate="another", psnr=quality["psnr"] + 2)
    text = attack_report.reconstructed(pd.concat([quality, other]), ["raw", "spact", "supervised"])
    psnr = quality["psnr"].iloc[1] + 1
    assert text.loc["SPAct", "PSNR of g's output"] == f"{psnr:.1f} [{psnr - 12.7062:.1f}, {psnr + 12.7062:.1f}]"
    assert list(text["replicates"]) == ["2", "0"] and (text.iloc[1, 1:] == "not run").all()
    assert attack_readings.inverted(tables.reading(one), ["raw", "supervised"]) == {}


# Folds of one's own clips.


def test_folds_together(tiny_csv: Path, tmp_path: Path) -> None:
    own = known(Role(str(tiny_csv), "action"), Role(str(tiny_csv), "action"))  # any single-label task
    tiny = TINY.model_copy(update={"target_seeds": (0,)})
    studies = [Study(tiny, own, Store(tmp_path), 0, ("split", value)) for value in ("val", "test")]
    names = ["own", "unprepared", "frame", "video"]
    attacks.train(studies, ["raw"], names)
    found = attack_readings.fold_readings(studies, ["raw"], names)
    together = attack_readings.table(found)
    hits, n = 0, 0
    for each in studies:
        probabilities, truth = predictions(each.store, each.target_spec(attacks.RAW, "privacy"))
        hits, n = hits + int((probabilities.argmax(1) == truth).sum()), n + len(truth)
    row = together.loc[("own", "raw")]
    assert row["here"] == pytest.approx(100 * hits / n) and row["low"] <= row["here"] <= row["high"]
    assert (found["n"] == n).all()  # videos, although "frame" has an answer for each of their frames
    frame = together.loc[("frame", "raw")]
    assert frame["low"] <= frame["here"] <= frame["high"] and together["chance"].between(0, 100).all()
    reading = [tables.reading(each) for each in studies]
    pd.testing.assert_frame_equal(attack_readings.fold_readings(reading, ["raw"], [*names, "long"]), found)
    assert attack_readings.folds("smoke", "nowhere.csv:action/person", ["take", "1"], 0, train=False) == []
    assert f"Videos: {n}. Columns of methods: top-1" in repr(attack_report.Shown(found, ["raw"], names))
    nothing = attack_readings.fold_readings([], ["raw"], names)
    text = repr(attack_report.Shown(nothing, ["raw"], names))
    assert text.count("not run") == 4 and attack_report.sentences(nothing) == ""
    drawn = attack_report.curves(found, "top-1").axes[0].collections
    assert [row["low"], row["high"]] in [
        list(c.get_paths()[0].vertices[:, 1]) for c in drawn if len(c.get_paths()) == 1
    ]


def test_the_work_ahead_takes_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(ahead, "work", lambda profile: done.append(profile))
    monkeypatch.setattr(ahead, "begin_child", lambda: None)
    monkeypatch.setattr(ahead.signal, "signal", lambda *_: None)
    ahead._work_in_child("smoke", lambda: done.append("task"))
    ahead._work_in_child("smoke", None)
    assert done == ["task", "smoke"]
