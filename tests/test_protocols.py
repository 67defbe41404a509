"""Protocols: every one from end to end on tiny stand-ins for its datasets; what they share; how targets are scored."""

import builtins
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_model
from tiny import targets

from data_prep import pa_hmdb51
from spact_lib import protocols, table_text, tables, target
from spact_lib.config import DataSpec, Schedule, View, profile
from spact_lib.data import VideoFrames, rows_of
from spact_lib.errors import UserError
from spact_lib.manifest import Manifest, Task, read_manifest, write_manifest
from spact_lib.methods import METHODS, LearnedMethod
from spact_lib.metrics import multi_label_metrics, per_video
from spact_lib.paper import reported
from spact_lib.protocols import (
    PROTOCOLS,
    SAME_AS_UCF101,
    TABLE_PROTOCOLS,
    Column,
    Role,
    Target,
    data_spec,
    fingerprint,
    overlapping_classes,
    protocol,
)
from spact_lib.store import NotTrainedError, Store, manifest_of
from spact_lib.study import Study

VIEW = View(stored_side=16, size=16, n_frames=4, stride=1, crop=(0.8, 1.0), test_crop=1.0, flip=0.0, test_clips=2)
TWO = Schedule(steps=2, batch=4, lr=1e-3)
TINY = profile(
    "smoke", action_view=VIEW, privacy_view=VIEW.frames(), width=2, privacy_batch=3, evaluations=1,
    **dict.fromkeys(("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy"), TWO),
)  # fmt: skip
# Task -> kind and classes of the stand-ins; their labels go round by row.
ATTRIBUTES = ("one", "two", "three")
TASKS = {
    "ucf101": {"action": ("single", ("GolfSwing", "Archery", "Knitting"))},
    "hmdb51": {"action": ("single", ("golf", "wave"))},
    "hmdb51_without_pa": {"action": ("single", ("golf", "wave"))},
    "pa_hmdb51": dict.fromkeys(("pa_attributes", "pa_attributes_nudity2"), ("multi", ATTRIBUTES)),
    "pa_hmdb51_videos": {"action": ("single", ("golf", "wave"))},
    "vispr": dict.fromkeys(("vispr1", "vispr2"), ("multi", ATTRIBUTES)),
    "vispr_pa": dict.fromkeys(("pa_attributes", "pa_attributes_nudity2"), ("multi", ATTRIBUTES)),
    "phvu": {
        "action": ("multi", ("run", "sit")),
        "object": ("multi", ("ball", "car", "cup")),
        "scene": ("multi", ("sea", "hall")),
    },
    "vp_ucf101": {"action": ("single", ("GolfSwing", "Knitting")), "vp_attributes": ("multi", ATTRIBUTES)},
    "vp_hmdb51": {"action": ("single", ("golf", "wave")), "vp_attributes": ("multi", ATTRIBUTES)},
}


def stand_in(name: str, rows: pd.DataFrame, root: Path) -> Manifest:
    """The tiny clips under the name and with the tasks of a dataset."""
    table = rows[["path", "split"]]
    if name.startswith("hmdb51_without"):
        table = table[table["split"] != "test"]
    if name.startswith("pa_"):
        table = table[table["split"] != "unused"].assign(split="test")
    if name == "pa_hmdb51":  # three ranges of each video, of 3, 1 and 2 frames
        ranges = table.loc[table.index.repeat(3)]
        table = ranges.assign(start=[0, 3, 4] * len(table), end=[3, 4, 6] * len(table))
    tasks = {}
    for k, (task, (kind, classes)) in enumerate(TASKS[name].items()):
        tasks[task] = Task(task, kind, classes)
        few = [classes[(n * (k + 1)) % len(classes) :][:2] for n in range(len(table))]
        cells = ["|".join(c if n % 5 else c[:1]) if kind == "multi" else c[0] for n, c in enumerate(few)]
        table = table.assign(**{task: cells})
    return Manifest(name, root, tasks, table)


@pytest.fixture(scope="module")
def world(one_cpu: None, tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, DataSpec], Store]:
    """All datasets of all protocols, tiny, and a store."""
    folder, rows, data = tmp_path_factory.mktemp("world"), pd.read_csv(tiny_csv, dtype=str), {}
    for name in TASKS:
        write_manifest(stand_in(name, rows, tiny_csv.parent), folder / name)
        data[name] = DataSpec(name=name, folder=folder / name, fingerprint=fingerprint(folder / name, own=False))
    return data, Store(folder / "store", read_only=False)


def study(world: tuple[dict[str, DataSpec], Store], name: str) -> Study:
    return Study(TINY, protocol(name), world[1], _data=world[0])


# --- which data ---


def test_ones_own_files_count_by_their_content(tmp_path: Path) -> None:
    found = set()
    for folder, content in (("a", "xx"), ("b", "xy"), ("c", "xx")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.avi").write_text(content)
        (tmp_path / folder / "my.csv").write_text("path,split,g:single\n1.avi,train,p\n")
        found.add(data_spec(profile("smoke"), f"{tmp_path}/{folder}/my.csv").fingerprint)
    assert len(found) == 2


def test_sizes_of_all_files_count_even_of_rows_that_are_not_used(tmp_path: Path) -> None:
    """Committed records know data with such rows (mini's HMDB51) by this."""
    (tmp_path / "my.csv").write_text("path,split,g:single\n1.avi,train,p\n2.avi,unused,p\n3.avi,unused,p\n")
    (tmp_path / "1.avi").write_text("four")
    (tmp_path / "2.avi").write_text("seven..")
    expected = hashlib.sha256(read_manifest(tmp_path / "my.csv").fingerprint.encode() + b"4,7,-1,")
    assert fingerprint(tmp_path / "my.csv", own=False) == expected.hexdigest()


def test_the_catalogue_speaks_only_of_data_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "data.json").write_text('{"my": "committed"}')
    (tmp_path / "my.csv").write_text("path,split,g:single\n1.avi,train,p\n")
    monkeypatch.setattr(protocols, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    assert data_spec(profile("smoke"), f"{tmp_path}/gone/my.csv").fingerprint == "committed"
    assert data_spec(profile("smoke"), f"{tmp_path}/my.csv").fingerprint != "committed"


def test_data_half_made_hide_no_committed_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = protocols.data_label(profile("smoke"), "ucf101")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "data.json").write_text(json.dumps({label: "committed"}))
    monkeypatch.setattr(protocols, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SPACT_READ_ONLY", "1")
    folder = protocols.dataset_folder(profile("smoke"), "ucf101")
    folder.mkdir(parents=True)
    assert data_spec(profile("smoke"), "ucf101").fingerprint == "committed"
    rows = pd.DataFrame({"path": ["1.avi"], "split": ["train"], "g:single": ["p"]})
    rows.to_csv(folder / "manifest.csv", index=False)
    (folder / "1.avi").write_text("content")
    monkeypatch.setattr(protocols, "read_manifest", lambda folder: read_manifest(folder / "manifest.csv"))
    assert data_spec(profile("smoke"), "ucf101").fingerprint == "committed"  # still being drawn
    (folder.parent / "drawn.json").write_text("{}")
    assert data_spec(profile("smoke"), "ucf101").fingerprint == fingerprint(folder, own=False) != "committed"


def test_files_that_no_row_in_use_needs_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.csv").write_text("path,split,g:single\n1.avi,train,p\n2.avi,unused,p\n")
    for name in ("1.avi", "2.avi"):
        (tmp_path / name).write_text("content")
    opened, real = [], builtins.open
    monkeypatch.setattr(builtins, "open", lambda path, *args, **kw: opened.append(str(path)) or real(path, *args, **kw))
    fingerprint(tmp_path / "my.csv", own=True)
    assert [path for path in opened if path.endswith(".avi")] == [str(tmp_path / "1.avi")]


# --- every protocol, from end to end ---


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_runs_from_end_to_end(world, name: str) -> None:
    one = study(world, name)
    for method in ("raw", "downsample_2x", "supervised", "spact"):
        scores = targets(one, method)
        assert scores.keys() == one.protocol.targets.keys()
        for role, [of_columns] in scores.items():
            assert len(of_columns) == len(one.protocol.targets[role].columns)
            for metrics in of_columns:
                value = metrics["top1"] if "top1" in metrics else metrics["cmap"]
                assert 0 <= value <= 100 and metrics["n_test"] > 0


@pytest.mark.parametrize("name", ["vp_ucf101", "vp_hmdb51"])
def test_a_vp_protocol_needs_one_dataset(name: str) -> None:
    assert set(protocol(name).roles) == {Role(name, "action"), Role(name, "vp_attributes")}


def test_the_action_of_phvu_is_learned_with_bce_and_scored_by_cmap(world) -> None:
    [[metrics]] = targets(study(world, "phvu"), "raw")["action"]
    assert {"cmap", "cmap_chance", "n_classes"} < metrics.keys() and "top1" not in metrics


def test_tables_of_several_protocols(world) -> None:
    table = tables.table("table2", study(world, "ucf101_vispr1"), protocols=TABLE_PROTOCOLS["table2"])
    metrics = table.index.unique("metric").tolist()
    assert metrics[:4] == [
        "HMDB51 action top-1",
        "HMDB51 action without shared classes top-1",
        "VISPR2 privacy cMAP",
        "VISPR2 privacy F1",
    ]
    assert [m for m in metrics if tables.is_action(m)] == [m for m in metrics if " action" in m]
    for known in protocols.PROTOCOLS.values():  # what "action" reads is utility, all else privacy
        for role, asked in known.targets.items():
            assert {tables.is_action(f"{column.name} cMAP") for column in asked.columns} == {role == "action"}
    assert table.loc[("VISPR2 privacy cMAP", "spact"), "paper"] == 47.1
    assert table.loc[("P-HVU scenes to objects cMAP", "supervised"), "paper"] == 6.43
    assert np.isnan(table.loc[("HMDB51 action without shared classes top-1", "raw"), "paper"])
    assert (table.xs("raw", level="method")["drop"].fillna(0) == 0).all()
    assert "SPAct: HMDB51 action top-1" in table_text.gap(table)
    alone = tables.table("table2", study(world, "novel"))
    pd.testing.assert_frame_equal(alone, table.loc[metrics[:4]])
    again = tables.table("table1", study(world, "ucf101_vispr1"), methods=["raw"], protocols=TABLE_PROTOCOLS["table1"])
    per = [m for m in again.index.unique("metric") if m.startswith("PA-HMDB51 privacy per")]
    assert len(per) == 8 and set(again.xs("raw", level="method").loc[per[::2], "paper"]) == {70.1}


@pytest.mark.parametrize("table", TABLE_PROTOCOLS)
def test_every_number_of_the_paper_has_its_column(table: str) -> None:
    """And every column that names one of the paper's finds it."""
    columns = [c for p in TABLE_PROTOCOLS[table] for t in PROTOCOLS[p].targets.values() for c in t.columns]
    listed = pd.read_csv(Path(protocols.__file__).with_name("reported.csv"))
    assert {c.paper for c in columns} - {""} == set(listed.loc[listed["table"] == table, "dataset"])
    for column in (c for c in columns if c.paper):
        values = [reported(table, "raw", column.paper, metric) for metric in ("top1", "cmap")]
        assert sum(value is not None for value in values) >= 1
    assert len({c.name for c in columns}) == len(columns)


# --- f_A is learned once ---


def learned(one: Study, method: str) -> str:
    return one.anonymizer(method, 0.5).key()


@pytest.mark.parametrize("name", ["novel", "ucf101_to_pa_hmdb51"])
def test_novel_protocols_judge_the_known_protocols_f_A(world, name: str) -> None:
    known, novel = study(world, "ucf101_vispr1"), study(world, "ucf101_vispr1").under(name)
    assert known.init_f_A.key() == novel.init_f_A.key()
    for method in (m for m, kind in METHODS.items() if isinstance(kind, LearnedMethod)):
        assert learned(known, method) == learned(novel, method), method
        # omega too is chosen by the same target.
        assert known.choice_spec(known.anonymizer(method, 0.5)) == novel.choice_spec(novel.anonymizer(method, 0.5))
    assert known.choice_spec(known.method("raw")) == known.target_spec(known.method("raw"), "action")


def test_only_the_supervised_f_A_of_phvu_depends_on_the_known_attributes(world) -> None:
    studies = [study(world, name) for name in ("phvu", "phvu_scene_to_object", "phvu_object_to_scene")]
    assert len({learned(one, "spact") for one in studies}) == 1
    assert len({learned(one, "supervised") for one in studies}) == 3
    classes = [manifest_of(one.data(one.protocol.privacy)).task(one.protocol.privacy.task).n_classes for one in studies]
    assert classes == [5, 2, 3]


def test_two_tasks_are_one_with_all_their_classes(world) -> None:
    manifest = manifest_of(world[0]["phvu"])
    assert manifest.task("object+scene").classes == ("ball", "car", "cup", "sea", "hall")
    expected = np.hstack([manifest.labels("object"), manifest.labels("scene")])
    assert np.array_equal(manifest.labels("object+scene"), expected) and expected.any(0).all()
    for wrong in ("object+colour", "objects", "action+"):
        with pytest.raises(UserError, match="unknown task of dataset 'phvu': .*; choose one of: action, object, scene"):
            manifest.labels(wrong)


# --- how a target is scored ---


def test_frames_and_videos_are_scored_as_a_slow_version_does(world) -> None:
    one = study(world, "hmdb51_vispr1")
    spec = one.score_spec(one.method("raw"), "privacy")
    scores = world[1].run(spec).metrics["scores"]
    assert [(s.task, s.per) for s in spec.scores] == [
        ("pa_attributes", "frame"),
        ("pa_attributes_nudity2", "frame"),
        ("pa_attributes", "video"),
        ("pa_attributes_nudity2", "video"),
    ]
    network, _ = target.build_target(spec.target.network, 3)
    load_model(network, world[1].files(spec.target) / "network.safetensors")
    network.eval()
    manifest, source = manifest_of(spec.data), VideoFrames(manifest_of(spec.data), 16)
    for each, got in zip(spec.scores, scores, strict=True):
        frames, labels = {}, {}
        for row in rows_of(manifest, "test"):
            path, shown = manifest.rows["path"][row], set(manifest.rows[each.task][row].split("|")) - {""}
            for t in range(source.n_frames(row)):
                picture = torch.from_numpy(source.read(row, np.array([t])))[0]
                left = (picture.shape[1] - 16) // 2
                x = picture[:, left : left + 16].permute(2, 0, 1)[None, None].float() / 255
                with torch.no_grad():
                    frames.setdefault(path, []).append(network(x).sigmoid()[0].numpy())
                labels.setdefault(path, []).append([name in shown for name in ATTRIBUTES])
        assert {len(each) for each in frames.values()} == {6}
        if each.per == "frame":
            p, y = np.concatenate(list(frames.values())), np.concatenate(list(labels.values()))
        else:
            p = np.array([np.mean(each, axis=0) for each in frames.values()])
            y = np.array([np.any(each, axis=0) for each in labels.values()])
        expected = multi_label_metrics(torch.from_numpy(p), torch.from_numpy(y.astype(np.uint8)))
        assert got["n_test"] == len(p) == {"frame": 66, "video": 11}[each.per]
        assert got["ap"] == pytest.approx(expected["ap"], abs=1e-3) and got["f1"] == pytest.approx(expected["f1"])
        assert got["cmap_chance"] == pytest.approx(expected["cmap_chance"])
    assert scores[0] != scores[1]


def test_per_video_by_hand() -> None:
    p = torch.tensor([[0.2, 0.9], [0.5, 0.1], [0.4, 0.3]])
    y = torch.tensor([[0, 1], [1, 0], [0, 0]], dtype=torch.uint8)
    means, present = per_video(p, y, np.array(["b", "a", "b"], dtype=object))
    assert torch.allclose(means, torch.tensor([[0.5, 0.1], [0.3, 0.6]]))
    assert present.tolist() == [[1, 0], [0, 1]]


def test_classes_of_the_known_set_are_left_out(world) -> None:
    one = study(world, "novel")
    spec = one.score_spec(one.method("raw"), "action")
    whole, without = world[1].run(spec).metrics["scores"]
    own = world[1].run(spec.target).metrics
    assert all(whole[key] == own[key] for key in ("top1", "top1_chance", "n_test"))
    with np.load(world[1].files(spec.target) / "predictions.npz") as saved:
        probabilities, targets = saved["probabilities"], saved["targets"]
    kept = targets == 1  # "wave"; UCF101 has golf
    assert without["n_test"] == kept.sum() < len(kept)
    assert without["top1"] == pytest.approx(100 * (probabilities[kept].argmax(1) == 1).mean())
    assert set(spec.scores[1].without) == set(SAME_AS_UCF101)
    known, novel = (manifest_of(world[0][name]).tasks["action"].classes for name in ("ucf101", "hmdb51"))
    assert overlapping_classes(known, novel) == [("GolfSwing", "golf")]


def test_where_no_class_is_shared_both_columns_are_one_test(world) -> None:
    one = study(world, "novel")
    left_out = replace(one.protocol.targets["action"].columns[1], without=("dive", "climb"))
    asked = replace(one.protocol.targets["action"], columns=(one.protocol.targets["action"].columns[0], left_out))
    one = replace(one, protocol=replace(one.protocol, targets={"action": asked}))
    method = one.method("raw")
    assert one.score_spec(method, "action") == one.target_spec(method, "action")
    whole, without = one.scores(method, "action")
    assert whole == without == world[1].run(one.target_spec(method, "action")).metrics


def test_a_target_without_test_rows_of_its_own_is_tested_elsewhere(world) -> None:
    one = study(world, "ucf101_to_pa_hmdb51")
    metrics = one.target(one.method("raw"), "action").metrics
    assert metrics.keys() == {"val", "chosen_step"}
    [[there]] = targets(one, "raw")["action"]
    assert there["n_test"] == 11
    own = replace(one.protocol, targets={"action": Target(Role("hmdb51_without_pa", "action"), (Column("action"),))})
    with pytest.raises(UserError, match="'hmdb51_without_pa' has no row of split 'test'"):
        replace(one, protocol=own)


def test_a_target_is_tested_on_the_classes_it_learned(world) -> None:
    one = study(world, "ucf101_to_pa_hmdb51")
    wrong = Target(Role("ucf101", "action"), (Column("action"),), tested="pa_hmdb51_videos")
    other = replace(one, protocol=replace(one.protocol, targets={"action": wrong}))
    with pytest.raises(UserError, match="task 'action' of 'pa_hmdb51_videos' has other classes than task 'action' of"):
        targets(other, "raw")


def test_a_score_alone_is_not_trained_again(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are enough to read scores; without them a read-only store refuses."""
    one = study(world, "hmdb51_vispr1")
    expected = targets(one, "raw")
    strict = replace(one, store=Store(tmp_path, read_only=True))
    with pytest.raises(NotTrainedError, match="no record of test"):
        targets(strict, "raw")
    found = {key: json.loads(json.dumps(record)) for key, record in one.store.used.items()}
    monkeypatch.setattr("spact_lib.store.find_committed", lambda spec: found.get(spec.key()))
    assert json.dumps(targets(strict, "raw")) == json.dumps(expected)


# --- the real annotations ---


@pytest.mark.parametrize(("task", "chance"), [("pa_attributes", 69.1), ("pa_attributes_nudity2", 60.2)])
def test_chance_lines_of_pa_hmdb51_per_frame(shared_data: Path, monkeypatch, world, task: str, chance: float) -> None:
    """Through the code that scores f'_B, with a network that sees nothing and frames of one size."""
    manifest = pa_hmdb51.prepare(Path("media"), annotations=shared_data / "annotations" / "pa_hmdb51")
    lengths = (manifest.rows["end"] - manifest.rows["start"]).to_numpy(int)

    class Frames:
        def n_frames(self, row: int) -> int:
            return lengths[row]

        def read(self, row: int, indices: np.ndarray) -> np.ndarray:
            return np.zeros((len(indices), 2, 2, 3), np.uint8)

    class Blind(torch.nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.rand(len(clips), 5)

    monkeypatch.setattr(target, "build_target", lambda name, n_classes: (Blind(), 2))
    monkeypatch.setattr(target, "load_model", lambda network, path: None)
    one = study(world, "hmdb51_vispr1")
    spec = one.score_spec(one.method("raw"), "privacy")
    spec = spec.model_copy(update={"scores": tuple(s for s in spec.scores if s.task == task)})
    learns = Manifest("vispr_pa", Path("media"), dict(pa_hmdb51.TASKS), manifest.rows)
    frame, video = target.score_target(spec, learns, Path("none"), Frames(), manifest, torch.device("cpu"))["scores"]
    assert frame["n_test"] == 52_411 and frame["cmap_chance"] == pytest.approx(chance, abs=0.1)
    assert frame["cmap"] == pytest.approx(chance, abs=1) and video["n_test"] == 515
