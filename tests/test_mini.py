"""The built-in data: layouts, labels, determinism, resumption. What has to be trained to be seen: slow/."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep import DATASETS, mini, vispr
from data_prep import mini_world as world
from spact_lib import notebook_setup
from spact_lib.errors import UserError
from spact_lib.files import write_json, write_text
from spact_lib.manifest import Manifest, missing_files, read_manifest
from spact_lib.video import probe, read_frames


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini")
    folders = mini.draw(out, 0, "smoke")
    assert folders == {name: out / name for name in DATASETS}
    return out


@pytest.fixture(scope="module")
def manifests(drawn: Path) -> dict[str, Manifest]:
    return {name: read_manifest(drawn / name) for name in DATASETS}


def planned(dataset: str, scale: str = "smoke") -> dict[str, mini.Item]:
    return {item.path: item for item in mini.plan(dataset, 0, scale)}


def test_every_file_is_there_and_every_class_has_rows(manifests: dict[str, Manifest]) -> None:
    for name, manifest in manifests.items():
        assert missing_files(manifest) == []
        splits = set(manifest.rows["split"])
        assert splits >= ({"test"} if name == "pa_hmdb51" else {"train", "val", "test"})
        for task in manifest.tasks.values():
            if task.name == "attributes":  # of VISPR's 68 the drawing shows 14
                continue
            for split in splits - {"unused"}:
                labels = manifest.select(split).labels(task.name)
                seen = set(labels.tolist()) if task.kind == "single" else set(np.flatnonzero(labels.any(0)).tolist())
                if split != "val" and (name, split) != ("pa_hmdb51", "test"):
                    assert seen == set(range(task.n_classes)), (name, task.name, split)


def test_labels_survive_the_official_formats(manifests: dict[str, Manifest]) -> None:
    for name in ("ucf101", "hmdb51"):
        items = planned(name)
        for _, row in manifests[name].rows.iterrows():
            assert row["action"] == items[row["path"]].action
    items = planned("vispr")
    for _, row in manifests["vispr"].rows.iterrows():
        marks = items[row["path"]].look.marks[0][1]
        assert set(filter(None, [*row["vispr1"].split("|"), *row["vispr2"].split("|")])) == marks
    items = planned("phvu")
    for _, row in manifests["phvu"].rows.iterrows():
        item = items[row["path"]]
        assert set(row["action"].split("|")) == set(item.action.split("|"))
        assert set(row["object"].split("|")) == item.look.objects
        assert set(row["scene"].split("|")) - {"rain"} == {item.look.ground}
    assert len(manifests["phvu"].rows) < len(items)  # rows without an object fall to P-HVU's rule


def test_frame_ranges_show_what_they_are_annotated_with(manifests: dict[str, Manifest]) -> None:
    items = planned("hmdb51")
    hmdb = manifests["hmdb51"].rows.set_index("path")["split"]
    for _, row in manifests["pa_hmdb51"].rows.iterrows():
        assert hmdb[row["path"]] in ("unused", "test")
        assert row["action"] == items[row["path"]].action
        present = row["pa_attributes"].split("|")
        for t in range(row["start"], row["end"]):
            marks = [m for first, m in items[row["path"]].look.marks if first <= t][-1]
            assert ("skin_color" in present) == ("a17_color" in marks)
            assert ("face" in present) == bool(marks & {"a9_face_complete", "a10_face_partial"})
            assert ("gender" in present) == ("a4_gender" in marks)
            assert ("nudity" in present) == ("a12_semi_nudity" in marks)
            assert ("relationship" in present) == bool(marks & {"a64_rel_personal", "a65_rel_social"})


def test_annotated_values_take_every_official_form() -> None:
    items = [item for item in mini.plan("hmdb51", 0, "mini") if item.tracks]
    values = {a: {json.dumps(s[2]) for item in items for s in item.tracks[a]} for a in items[0].tracks}
    assert values == {
        "skin_color": {"0", "1", "2", "3", "[1, 2]", "[1, 3]", "[2, 3]"},
        "face": {"0", "1", "2"},
        "gender": {"0", "1", "2", "[1, 2]", "[0, 1]"},
        "nudity": {"0", "1", "2"},
        "relationship": {"0", "1"},
    }
    assert sum(len(item.look.marks) for item in items) > 2 * len(items)


def test_attribute_sets_are_the_readers() -> None:
    assert tuple(world.MARKS) == vispr.VISPR1 + vispr.VISPR2


def test_sizes_are_the_promised_ones() -> None:
    for name, splits in {"ucf101": (1200, 1000), "hmdb51": (640, 1000), "phvu": (600, 1020)}.items():
        items = mini.plan(name, 0, "mini")
        assert tuple(sum(item.split == s for item in items) for s in ("train", "test")) == splits
        assert len({item.path for item in items}) == len(items)
    assert sum(bool(item.look.objects) for item in mini.plan("phvu", 0, "mini") if item.split == "test") == 1000


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51", "vispr"])
def test_labels_are_independent(dataset: str) -> None:
    """Every mark, object, ground, weather and action has its exact share, and no pair of them is associated."""
    items = [item for item in mini.plan(dataset, 0, "mini") if item.split == "train"]
    n = len(items)
    columns = {mark: [mark in item.look.marks[0][1] for item in items] for mark in world.MARKS}
    columns |= {name: [name in item.look.objects for item in items] for name in world.OBJECTS}
    columns["rain"] = [item.look.rain for item in items]
    shares = {**world.MARKS, **world.OBJECTS, **world.WEATHER}
    assert all(sum(columns[name]) == round(share * n) for name, share in shares.items())
    families = [{f"ground {g}": [item.look.ground == g for item in items] for g in world.GROUNDS}]
    families.append(
        {f"action {a}": [item.action == a for item in items] for a in {item.action for item in items} - {""}}
    )
    families += [{name: values} for name, values in columns.items()]
    for one, other in itertools.combinations(families, 2):
        for a, b in itertools.product(one.values(), other.values()):
            # 1,200 pairs: a correlation of independent columns leaves +-4.5 deviations once in 100 such tests.
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(n)


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_one_video_in_sixteen_rests_whatever_its_label(dataset: str) -> None:
    for split in ("train", "test"):
        items = [item for item in mini.plan(dataset, 0, "mini") if item.split == split]
        rests = np.array([not item.look.clocks for item in items])
        assert rests.sum() == int(np.ceil(len(items) / 16))
        for action in {item.action for item in items}:
            shows = np.array([item.action == action for item in items])
            assert abs(np.corrcoef(rests, shows)[0, 1]) < 4.5 / np.sqrt(len(items))


def test_known_and_novel_share_nothing() -> None:
    assert not set(world.KNOWN_ACTIONS) & set(world.NOVEL_ACTIONS)
    assert not set(vispr.VISPR1) & set(vispr.VISPR2)
    assert not set(world.OBJECTS) & {*world.GROUNDS, *world.WEATHER}


def test_pa_hmdb51_has_a_thousand_videos() -> None:
    assert sum(bool(item.tracks) for item in mini.plan("hmdb51", 0, "mini")) == 1000


def test_far_frames_of_a_video_differ_more_than_near_ones() -> None:
    """Table 4 samples frames less than 8, or more than 64, apart."""
    near, far = [], []
    for item in mini.plan("ucf101", 0, "mini")[:200:4]:
        drawn = [f.astype(float) for f, _ in world.draw(item.look, np.random.default_rng(item.seed), [5, 9, 72])]
        near.append(np.abs(drawn[0] - drawn[1]).mean())
        far.append(np.abs(drawn[0] - drawn[2]).mean())
    assert np.mean(far) > 1.3 * np.mean(near)


def test_no_frame_tells_the_action() -> None:
    """At a random time, place, angle and size are distributed alike for all actions (Kolmogorov-Smirnov distance)."""
    rng = np.random.default_rng(0)
    samples = {}
    for actions in (world.KNOWN_ACTIONS, world.NOVEL_ACTIONS):
        for action, clocks in actions.items():
            rows = []
            for _ in range(120):
                motion, t = world._move(clocks, rng), rng.integers(world.FRAMES)
                rows.append([motion.x[t], motion.y[t], motion.angle[t], motion.size[t]])
            samples[action] = np.array(rows)
        pooled = np.concatenate([samples[action] for action in actions])
        for action in actions:
            for own, all_of_them in zip(samples[action].T, pooled.T, strict=True):
                grid = np.sort(all_of_them)
                below = [np.searchsorted(np.sort(v), grid, side="right") / len(v) for v in (own, all_of_them)]
                assert np.abs(below[0] - below[1]).max() < 2.2 / np.sqrt(120), action


def test_files_are_what_they_claim(drawn: Path, manifests: dict[str, Manifest]) -> None:
    for name in ("ucf101", "hmdb51", "phvu"):
        manifest = manifests[name]
        info = probe(manifest.root / manifest.rows["path"].iloc[0])
        assert (info.frames, info.fps, info.width, info.height, info.codec) == (80, 25.0, 64, 64, "mpeg4")
    manifest = manifests["vispr"]
    assert read_frames(manifest.root / manifest.rows["path"].iloc[0], [0]).shape == (1, 64, 64, 3)


def test_boxes_enclose_the_critter(drawn: Path, manifests: dict[str, Manifest]) -> None:
    for name, manifest in manifests.items():
        stored = np.load(drawn / name / "boxes.npz")
        boxes = dict(zip(stored["path"].tolist(), stored["boxes"], strict=True))
        assert set(manifest.rows["path"]) <= set(boxes)
        x0, y0, x1, y1 = stored["boxes"].reshape(-1, 4).T
        assert min(x0.min(), y0.min()) >= 0 and max(x1.max(), y1.max()) <= 64
        assert 18 < np.median(x1 - x0) < 45
    # A file shows, inside its box, what the drawing draws: the red, where the mark is there, is stronger inside.
    items, manifest = planned("vispr"), manifests["vispr"]
    stored = np.load(drawn / "vispr" / "boxes.npz")
    inside = []
    for path, (box,) in zip(stored["path"].tolist(), stored["boxes"], strict=True):
        if "a17_color" in items[path].look.marks[0][1]:
            x0, y0, x1, y1 = box
            pixels = read_frames(manifest.root / path, [0])[0].astype(float)
            red = pixels[..., 0] - pixels[..., 1:].mean(-1)
            inside.append(red[y0:y1, x0:x1].mean() > red.mean())
    assert np.mean(inside) > 0.9


# sha256 of frames before encoding, boxes and labels. It freezes the drawing: results are comparable only among equal
# drawings. Whoever changes it on purpose raises mini.VERSION and repeats the slow tests.
FROZEN = "e9888a7316382130cb52fb0fe2faee2976e62b2717d6c7a4376052a5fa044780"


def fingerprint() -> str:
    digest = hashlib.sha256()
    for draw, name in itertools.product((0, 101), mini.SIZES["mini"]):
        for item in mini.plan(name, draw, "mini")[::400]:
            look = item.look
            shown = [item.path, item.split, item.action, look.ground, sorted(look.objects), look.rain, item.tracks]
            digest.update(json.dumps([*shown, [(t, sorted(m)) for t, m in look.marks]]).encode())
            frames = item.frames or range(0, world.FRAMES, 26)
            for picture, box in world.draw(look, np.random.default_rng(item.seed), frames):
                digest.update(picture.tobytes())
                digest.update(json.dumps([int(v) for v in box]).encode())
    return digest.hexdigest()


def test_the_drawing_is_frozen() -> None:
    assert fingerprint() == FROZEN


def test_draws_differ() -> None:
    for name in mini.SIZES["mini"]:
        looks = [[item.look for item in mini.plan(name, draw, "smoke")] for draw in (0, 1)]
        assert looks[0] != looks[1]


def test_frames_do_not_depend_on_which_are_asked_for() -> None:
    item = mini.plan("ucf101", 0, "smoke")[3]
    whole = list(world.draw(item.look, np.random.default_rng(item.seed)))
    ((picture, box),) = world.draw(item.look, np.random.default_rng(item.seed), [57])
    assert np.array_equal(picture, whole[57][0]) and box == whole[57][1]


def test_an_interrupted_drawing_continues(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "half"
    shutil.copytree(drawn, out)
    (out / "drawn.json").unlink()
    (out / "phvu" / "manifest.csv").unlink()
    (out / "ucf101" / "boxes" / "00040.npy").unlink()
    lost = out / "official" / "ucf101" / mini.plan("ucf101", 0, "smoke")[45].path
    lost.unlink()
    kept = out / "official" / "ucf101" / mini.plan("ucf101", 0, "smoke")[5].path
    before = kept.stat().st_mtime_ns
    mini.draw(out, 0, "smoke")
    assert kept.stat().st_mtime_ns == before
    for path in sorted(p for p in drawn.rglob("*") if p.is_file() and p.suffix != ".npz"):
        assert (out / path.relative_to(drawn)).read_bytes() == path.read_bytes(), path
    for name in DATASETS:
        one, other = (np.load(folder / name / "boxes.npz") for folder in (drawn, out))
        assert np.array_equal(one["boxes"], other["boxes"])


def test_a_finished_drawing_is_left_alone_and_another_version_drawn_anew(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Drawing(Exception):
        pass

    def refuse(*_: object) -> None:
        raise Drawing

    out = tmp_path / "old"
    shutil.copytree(drawn, out)
    monkeypatch.setattr(mini, "_draw_files", refuse)
    monkeypatch.setattr(notebook_setup, "mini_folder", lambda scale, draw: out)
    notebook_setup.draw_data("smoke", 0)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(mini, "VERSION", mini.VERSION + 1)
    with pytest.raises(Drawing):
        notebook_setup.draw_data("smoke", 0)
    assert capsys.readouterr().out == "drawing the built-in data, draw 0\n"
    assert not (out / "official").exists() and not (out / "drawn.json").exists()


def test_what_a_newer_version_has_drawn_is_not_removed(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(drawn, tmp_path / "new")
    monkeypatch.setattr(mini, "VERSION", mini.VERSION - 1)
    with pytest.raises(UserError, match="was drawn by a newer version of spact; update this one"):
        mini.draw(tmp_path / "new", 0, "smoke")
    assert (tmp_path / "new" / "official").exists()


@pytest.mark.parametrize("name", ["ucf101/precious.avi", "notes.txt", ".a.0123abcd.tmp", "drawn.json"])
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_was(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "{}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is not empty and holds no drawing of the mini data; choose another folder"):
        mini.draw(tmp_path, 1, "smoke")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("draw", "scale"), [(1, "smoke"), (0, "mini")])
def test_another_draw_or_scale_is_refused_and_nothing_removed(tmp_path: Path, draw: int, scale: str) -> None:
    note = {"version": mini.VERSION, "draw": 0, "scale": "smoke"}
    for name in ("begun.json", "drawn.json", "official/ucf101/a.avi"):
        write_json(tmp_path / name, note)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"holds draw 0 of scale smoke, not draw {draw} of scale {scale}; choose"):
        mini.draw(tmp_path, draw, scale)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("draw", "scale", "said"),
    [(0, "tiny", "unknown scale of the mini data 'tiny'; choose one of: mini, smoke"), (-1, "smoke", "from 0 up")],
)
def test_bad_arguments(tmp_path: Path, draw: int, scale: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        mini.draw(tmp_path / "out", draw, scale)
    assert not (tmp_path / "out").exists()


def test_the_same_files_are_read_as_further_datasets(drawn: Path, manifests: dict[str, Manifest]) -> None:
    further = {name: read_manifest(drawn / name) for name in mini.FURTHER}
    annotated = set(manifests["pa_hmdb51"].rows["path"])
    without = further["hmdb51_without_pa"].rows
    assert not annotated & set(without.loc[without["split"] != "unused", "path"]) and annotated < set(without["path"])
    assert further["pa_hmdb51_videos"].rows["path"].tolist() == manifests["pa_hmdb51"].rows["path"].unique().tolist()
    for name in ("hmdb51", "hmdb51_without_pa", "pa_hmdb51_videos"):
        assert (further | manifests)[name].tasks["action"] == manifests["pa_hmdb51"].tasks["action"]
    assert further["vispr_pa"].rows["path"].equals(manifests["vispr"].rows["path"])
    for name in ("ucf101", "hmdb51"):
        labelled, items = further[f"vp_{name}"], planned(name)
        assert labelled.rows.drop(columns="vp_attributes").equals(manifests[name].rows)
        for path, cell in labelled.rows[["path", "vp_attributes"]].itertuples(index=False):
            marks = set().union(*(shown for _, shown in items[path].look.marks))
            assert ("gender" in cell.split("|")) == ("a4_gender" in marks)
            assert ("relationship" in cell.split("|")) == bool(marks & {"a64_rel_personal", "a65_rel_social"})
    for name, manifest in further.items():
        assert missing_files(manifest) == [] and (drawn / name / "boxes.npz").exists()


def test_an_older_drawing_gets_the_further_datasets_and_nothing_is_drawn_again(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "older"
    shutil.copytree(drawn, out)
    for name in mini.FURTHER:
        shutil.rmtree(out / name)
    before = {path: path.read_bytes() for path in out.rglob("*.csv")}
    monkeypatch.setattr(mini, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("it was drawn again"))
    mini.draw(out, 0, "smoke")
    assert all(path.read_bytes() == content for path, content in before.items())
    for name in mini.FURTHER:
        assert read_manifest(out / name).fingerprint == read_manifest(drawn / name).fingerprint
