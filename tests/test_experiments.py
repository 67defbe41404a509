import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model
from tiny import HERE, TINY, outcome, specs, steps, study, targets, without

from spact_lib import crossval, data, experiments, notebook_tables, plan, protocols, results, target, training
from spact_lib.config import Profile, TargetSpec
from spact_lib.errors import DamagedError, UserError, missing_left_out
from spact_lib.experiments import anonymize_uint8, to_uint8
from spact_lib.losses import nt_xent_uninformative
from spact_lib.manifest import Manifest
from spact_lib.methods import LearnedMethod
from spact_lib.protocols import data_spec, protocol
from spact_lib.results import keep_records
from spact_lib.store import Artifact, NotTrainedError, Store, manifest_of
from spact_lib.study import Study

pytestmark = pytest.mark.usefixtures("one_cpu")


# --- the whole path ---


def test_every_method_gets_its_rows(finished: tuple[Study, dict]) -> None:
    one, rows = finished
    for name, row in rows.items():
        assert [len(row[role]) for role in ("action", "privacy")] == [2, 2], name
        for [metrics] in row["action"]:
            assert 0 <= metrics["top1"] <= 100 and metrics["n_test"] == 3
        for [metrics] in row["privacy"]:
            assert 0 < metrics["cmap"] <= 100 and 0 <= metrics["f1"] <= 1 and len(metrics["ap"]) == 2
            assert 1 <= metrics["chosen_step"] <= 4
    kinds = {path.parent.parent.name for path in one.store.root.glob("*/*/record.json")}
    assert kinds == {"frames", "init_f_A", "init_f_T", "init_f_B", "anonymizer", "noise_features", "release", "target"}
    counts = {kind: len(list((one.store.root / kind).glob("*/record.json"))) for kind in kinds}
    # One dataset: decoded once; one start for all learned methods, one f_T for all but those that change it, one f_B
    # for those that only play on with it; raw frames are not written twice.
    learned = sum(isinstance(method, LearnedMethod) for method in HERE.values())
    assert counts == {
        "frames": 1, "init_f_A": 1, "init_f_T": 5, "init_f_B": learned - 10, "anonymizer": learned,
        "noise_features": 1, "release": len(HERE) - 1, "target": 4 * len(HERE),
    }  # fmt: skip


def test_a_record_says_what_was_made_and_where(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    spec = one.anonymizer("spact", 0.5)
    artifact = one.store.run(spec)
    record = json.loads((artifact.folder / "record.json").read_text())
    assert record["key"] == spec.key() == artifact.folder.name
    assert type(spec).model_validate(record["spec"] | {"f_T": spec.f_T, "f_B": spec.f_B}) == spec
    assert record["environment"]["device"].startswith("cpu") and record["environment"]["torch"] == torch.__version__
    assert record["seconds"] > 0
    metrics = record["metrics"]
    assert metrics["steps"] == 3 and {"L_T", "L_B", "L_T_step1", "L_B_step1", "spread"} < set(metrics)
    # Six training clips make batches of six, whatever the schedule asks for.
    assert metrics["L_B_uninformative"] == pytest.approx(nt_xent_uninformative(6))
    strips = sorted(artifact.folder.glob("frames-*.npy"))
    assert [path.stem for path in strips] == [f"frames-{k:06d}" for k in (1, 2, 3)]
    assert np.load(strips[-1]).shape[1:] == (16, 19, 3) and np.load(strips[-1]).dtype == np.uint8


@pytest.mark.parametrize(
    ("row", "here", "away"),
    [
        ("spact", nt_xent_uninformative(6), nt_xent_uninformative(24)),
        ("spact_stills", nt_xent_uninformative(5), nt_xent_uninformative(5)),
        ("moco", math.log(257), math.log(257)),
    ],
)
def test_f_B_before_the_game_is_measured_at_the_batch_that_it_had(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, here: float, away: float
) -> None:
    """Of six training clips a batch of 24 has six; where there are records but no data, as many as it may have."""
    settings = TINY.model_copy(update={"init_f_B": steps(3, batch=24), "privacy_batch": 5})
    metrics = {"L_B": 1.2, "L_B_uninformative": 2.4, "L_T": 0.5}
    monkeypatch.setattr(Store, "run", lambda self, spec: SimpleNamespace(metrics=metrics))
    recorded = plan._planned_study(settings, "ucf101_vispr1")
    for one, start in ((study(tiny_csv, tmp_path, settings), here), (recorded, away)):
        (shares,) = notebook_tables.games(one, {row: one.anonymizer(row, 0.5)}).to_numpy().tolist()
        assert shares == [f"{100 * 1.2 / start:.0f}", "50", "0.50"]


def test_the_game_begins_with_what_the_spec_says(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    spec = one.anonymizer("supervised", 0.3)
    game, batches = experiments.open_game(spec, one.store)
    assert (game.omega, game.precision) == (0.3, "bfloat16")
    assert [o.param_groups[0]["lr"] for o in (game.optimizer_A, game.optimizer_T, game.optimizer_B)] == [1e-3] * 3
    for name, net, start in [("f_A", game.f_A, spec.f_A), ("f_T", game.f_T, spec.f_T), ("f_B", game.f_B, spec.f_B)]:
        saved = load_file(one.store.files(start) / f"{name}.safetensors")
        assert all(torch.equal(net.state_dict()[key], value) for key, value in saved.items())
    (batch,) = batches(0, 1)
    assert batch["clip"].shape == (6, 4, 3, 16, 16) and batch["label"].shape == (6,)
    assert batch["image"].shape == (3, 1, 3, 16, 16) and batch["image_label"].shape == (3, 2)


def test_a_clamped_game_pays_f_A_up_to_an_f_B_that_sees_nothing(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    blind = nt_xent_uninformative(6)  # of six training videos
    for row, ceiling, learns in (
        ("spact", None, True),
        ("spact_clamped", blind, True),
        ("frozen_f_B_clamped", blind, False),
    ):
        game, _ = experiments.open_game(one.anonymizer(row, 0.3), one.store)
        assert (game.ceiling, game.update_f_B) == (pytest.approx(ceiling), learns)


def test_stills_are_seen_twice_and_without_labels(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    spec = one.anonymizer("spact_stills", 0.3)
    _, batches = experiments.open_game(spec, one.store)
    (batch,) = batches(0, 1)
    assert set(batch) == {"clip", "label", "image", "image_further"}
    assert batch["image"].shape == batch["image_further"].shape == (3, 1, 3, 16, 16)
    assert not any(torch.equal(*views) for views in zip(batch["image"], batch["image_further"], strict=True))
    # Three images, although there are six videos.
    assert one.store.run(spec).metrics["L_B_uninformative"] == pytest.approx(nt_xent_uninformative(3))


def test_the_same_spec_is_not_made_twice(finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    one, rows = finished
    monkeypatch.setattr(experiments, "BUILDERS", {})
    again = replace(one, store=Store(one.store.root, read_only=False))
    assert json.dumps({name: targets(again, name) for name in HERE}) == json.dumps(rows)
    assert again.store.used.keys() <= one.store.used.keys()


def test_what_is_released_is_f_A_in_8_bits(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    spec = specs(one)["release"]
    f_A = one.store.load_anonymizer(spec.method)
    raw, release = one.store.frames(spec.frames)[0], one.store.release(spec)
    assert len(raw) == len(release) == 12
    for row in (0, 10):
        every = np.arange(raw.n_frames(row))
        assert np.array_equal(release.read(row, every), anonymize_uint8(f_A, raw.read(row, every), "bfloat16"))
    assert release.n_frames(11) == 0  # unused
    assert not f_A.training
    f_A.train()
    before = f_A.stem[1].running_mean.clone()
    anonymize_uint8(f_A, raw.read(0, np.array([0, 1])), "float32")  # a picture taken during training
    assert f_A.training and torch.equal(f_A.stem[1].running_mean, before)
    shades = torch.tensor([-0.1, 0.4, 0.6, 254.4, 255.6]).div(255).view(5, 1, 1, 1).expand(5, 3, 1, 1)
    assert to_uint8(shades)[:, 0, 0, 0].tolist() == [0, 0, 1, 254, 255]


def test_a_downsampled_release_is_small(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    role = one.protocol.action
    shapes = [
        one.store.release(one.release(one.method(name), role)).read(0, np.array([0])).shape
        for name in ("raw", "downsample_2x", "downsample_4x", "downsample_4x_up")
    ]
    assert shapes == [(1, 16, 19, 3), (1, 8, 10, 3), (1, 4, 5, 3), (1, 16, 19, 3)]


def test_decoding_at_every_use_changes_nothing(finished: tuple[Study, dict], tiny_csv: Path, tmp_path: Path) -> None:
    one, _ = finished
    other = study(tiny_csv, tmp_path, decode_once=False)
    spec = other.target_spec(other.method("raw"), "privacy")
    assert outcome(other.store.run(spec)) == outcome(one.store.run(spec))
    assert not (tmp_path / "frames").exists()


# --- targets ---


def test_validation_chooses_the_checkpoint(
    finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, _ = finished
    spec = one.target_spec(one.method("raw"), "action")
    parts: list[int] = []

    def falling(probabilities: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        parts.append(len(targets))
        return {"top1": 50.0 - len(parts)}

    monkeypatch.setattr(target, "score", falling)
    artifact = without(one, spec, tmp_path / "store").store.run(spec)
    assert parts == [2, 2, 3]  # validation twice, test once
    assert artifact.metrics["chosen_step"] == 2 and artifact.metrics["val"] == 49
    monkeypatch.setattr(target, "score", lambda probabilities, targets: {"top1": 50.0})  # no worse: the last one
    last = without(one, spec, tmp_path / "other").store.run(spec)
    assert last.metrics["chosen_step"] == 4
    weight = "body.stem.0.weight"
    early, late = (load_file(each.folder / "network.safetensors")[weight] for each in (artifact, last))
    assert not torch.equal(early, late)
    # The test predictions are those of the checkpoint that validation chose.
    network, dims = target.build_target(spec.network, 2)
    load_model(network, artifact.folder / "network.safetensors")
    manifest = manifest_of(spec.data)
    dataset = data.ClipDataset(
        one.store.release(spec.release), data.rows_of(manifest, "test"), manifest.labels("action"), spec.view
    )
    expected = target.predict(network, dims, dataset, torch.device("cpu"))
    assert np.array_equal(np.load(artifact.folder / "predictions.npz")["probabilities"], expected.numpy())


def test_without_validation_rows_the_last_step_is_taken(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    fold = Study(TINY, one.protocol, one.store, leave_out=("person", "a"))
    metrics = fold.target(fold.method("raw"), "action").metrics
    assert (metrics["val"], metrics["chosen_step"], metrics["n_test"]) == (None, 4, 6)


# --- read-only ---


def test_read_only_never_trains(finished: tuple[Study, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = finished
    spec = specs(one)["f'_T"]
    assert Store(one.store.root, read_only=True).run(spec).metrics == one.store.run(spec).metrics
    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    with pytest.raises(NotTrainedError, match=f"no record of target {spec.key()} in .*training is forbidden"):
        Store(tmp_path / "empty").run(spec)
    assert not (tmp_path / "empty").exists()


def test_a_reading_store_decodes_as_its_own_does(tmp_path: Path) -> None:
    for decode_once in (True, False):
        reading = Store(tmp_path, decode_once=decode_once).reading()
        assert reading.read_only and reading.decode_once == decode_once and reading.root == tmp_path


def test_what_is_damaged_is_told_and_not_taken_for_untrained(finished: tuple[Study, dict], tmp_path: Path) -> None:
    spec, store = specs(finished[0])["f_A"], Store(tmp_path, read_only=True)
    with missing_left_out():
        store.run(spec)
    record = store.folder(spec) / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(DamagedError, match="record.json is damaged"), missing_left_out():
        store.run(spec)
    table = tmp_path / "mine.csv"
    with missing_left_out():
        data_spec(TINY, str(table))
    table.write_text("path;split;action:single\n")
    with pytest.raises(UserError, match="is separated by ';'"), missing_left_out():
        data_spec(TINY, str(table))


def test_a_table_comes_from_committed_records_without_data_or_training(
    finished: tuple[Study, dict], tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, rows = finished
    records = tmp_path / "notebooks" / "records"
    lines = keep_records(one.store.used, records, "04_table1").read_text().splitlines()
    assert len(lines) == len(one.store.used) and all(len(line) < 2000 for line in lines)
    assert str(tiny_csv.parent) not in "".join(lines)
    assert json.loads((records / "data.json").read_text()) == {"tiny": one.init_f_A.action.fingerprint}

    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    monkeypatch.setattr(protocols, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(results, "RECORDS", records)
    elsewhere = Study(TINY, protocol(f"{tmp_path}/gone/tiny.csv:action/attributes"), Store(tmp_path / "empty"))
    assert json.dumps({name: targets(elsewhere, name) for name in HERE}) == json.dumps(rows)
    assert not (tmp_path / "empty").exists()
    with pytest.raises(NotTrainedError, match="only the record of anonymizer .* is committed, not its files"):
        elsewhere.store.load_anonymizer(elsewhere.anonymizer("spact", 0.5))
    with pytest.raises(NotTrainedError, match="only the record of target .* is committed, not its files"):
        crossval.cross_validate({"a": elsewhere}, ["raw"])
    # Kept again from records, as a table notebook does: nothing is lost.
    again = keep_records(elsewhere.store.used, tmp_path / "again", "04_table1").read_text().splitlines()
    assert set(again) <= set(lines)


# --- thresholds and the choice of omega ---


def test_minimax_is_refused_above_th_A0(finished: tuple[Study, dict]) -> None:
    one, _ = finished
    reached = one.store.run(one.init_f_A).metrics["val_l1"]
    strict = Study(profile_with(th_A0=reached / 2), one.protocol, one.store)
    message = f"mean L1 of {reached:.4f}, above th_A0 = {reached / 2}.*give init_f_A more steps"
    for spec in (strict.init_f_T(), strict.anonymizer("supervised", 0.5)):
        with pytest.raises(UserError, match=message):
            strict.store.run(spec)
    assert targets(strict, "identity")["action"]  # the identity row is nobody's start


def profile_with(**changes: object) -> Profile:
    return Profile.model_validate(TINY.model_dump() | changes)


def test_initialisation_stops_at_its_thresholds(finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MEAN_WINDOW", 1)
    one, _ = finished
    easy = Study(profile_with(th_T0=99.0, th_B0=99.0), one.protocol, one.store)
    for spec in (easy.init_f_T(), easy.anonymizer("spact", 0.5).f_B):
        folder = easy.store.run(spec).folder
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("raw", "found", "chosen", "tried"),
    [
        (90.0, {0.9: 95.0}, 0.9, [0.9]),  # better than raw will do
        (90.0, {0.9: 86.9, 0.5: 87.0, 0.1: 90.0}, 0.5, [0.9, 0.5]),  # exactly 3 points less will do
        (90.0, {0.9: 10.0, 0.5: 20.0, 0.1: 30.0}, 0.1, [0.9, 0.5, 0.1]),  # none keeps the action: the smallest
        (None, {}, 0.5, []),  # no validation rows: the middle
    ],
)
def test_the_largest_omega_that_keeps_the_action_is_taken(
    finished: tuple[Study, dict], monkeypatch: pytest.MonkeyPatch, raw: float, found: dict, chosen: float, tried: list
) -> None:
    one = Study(profile_with(omegas=(0.5, 0.9, 0.1)), finished[0].protocol, finished[0].store)

    def canned(self: Store, spec: TargetSpec) -> Artifact:
        assert spec.task == "action"
        method = spec.release.method
        return Artifact({"metrics": {"val": found[method.omega] if hasattr(method, "omega") else raw}}, None)

    monkeypatch.setattr(Store, "run", canned)
    spec, values = one.choose_omega("supervised")
    assert spec == one.anonymizer("supervised", chosen) and list(values) == tried


def test_spact_is_learned_and_chosen_without_privacy_labels(
    finished: tuple[Study, dict], tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = Manifest.sparse_labels  # of which ``labels`` is made

    def only_actions(self: Manifest, task: str) -> np.ndarray:
        assert task == "action", "SPAct looked at privacy labels"
        return labels(self, task)

    monkeypatch.setattr(Manifest, "sparse_labels", only_actions)
    other = study(tiny_csv, tmp_path)
    spec = other.method("spact")
    assert outcome(other.store.run(spec)) == outcome(finished[0].store.run(spec))
    other.store.run(other.method("spact_stills"))
    with pytest.raises(AssertionError, match="looked at privacy labels"):
        other.method("supervised")
