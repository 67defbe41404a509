"""Exported anonymizers: written from a store, read back, refused where something does not fit."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from data_prep import mini
from spact_lib import cli
from spact_lib.apps import pretrained
from spact_lib.apps.anonymize import Settings, anonymize, load_method, warning
from spact_lib.apps.pretrained import export
from spact_lib.config import Schedule, View, profile
from spact_lib.errors import UserError
from spact_lib.networks.anonymizer import CONFIG, FORMAT, WEIGHTS, Anonymizer, digest, read_config
from spact_lib.protocols import protocol
from spact_lib.readme import README
from spact_lib.store import Store
from spact_lib.study import Study
from spact_lib.video import probe, write_video

VIEW = View(stored_side=16, size=16, n_frames=4, stride=1, crop=(0.8, 1.0), test_crop=1.0, flip=0.0, test_clips=1)


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def study(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    short = Schedule(steps=2, batch=4, lr=1e-3)
    parts = ("init_f_A", "init_f_T", "init_f_B", "minimax", "target_action", "target_privacy")
    tiny = profile("smoke", action_view=VIEW, privacy_view=VIEW.frames(), width=2, **dict.fromkeys(parts, short))
    store = Store(tmp_path_factory.mktemp("store"), read_only=False)
    return Study(tiny, protocol(f"{tiny_csv}:action/attributes"), store)


@pytest.fixture(scope="module")
def exported(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(study, "spact", tmp_path_factory.mktemp("exported") / "spact")


def test_an_export_is_the_trained_network_and_says_what_it_is(study: Study, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {WEIGHTS, CONFIG, "README.md"}
    assert [path.name for path in exported.parent.iterdir()] == ["spact"]
    spec = study.method("spact")
    frames = torch.rand(2, 3, 17, 30)
    with torch.no_grad():
        expected = study.store.load_anonymizer(spec).cpu()(frames)
        assert torch.equal(Anonymizer.from_pretrained(exported)(frames), expected)
    config = json.loads((exported / CONFIG).read_text())
    assert (config["width"], config["short_side"], config["key"]) == (2, 16, spec.key())
    assert config["spec"] == spec.model_dump(mode="json")
    assert str(study.store.root.parent) not in (exported / CONFIG).read_text()  # nothing of this machine
    card = (exported / "README.md").read_text()
    action, privacy = (study.target(spec, role).metrics for role in ("action", "privacy"))
    raw = study.target(study.method("raw"), "privacy").metrics
    row = f"| privacy cMAP | {privacy['cmap']:.1f} | {raw['cmap']:.1f} | {privacy['cmap_chance']:.1f} |"
    assert row in card and f"| action top-1 | {action['top1']:.1f} |" in card
    for part in (
        "action: tiny, task action, 6 training rows",
        "**A trial run.** Profile smoke trains for a handful of steps",
        "omega 0.5, 2 steps, seed 0",
        "without privacy labels",
        "task attributes",
        "Limits",
        "`from spact_lib.networks.anonymizer import Anonymizer`",
        "float32 in [0, 1], of shape (n, 3, h, w)",
    ):
        assert part in card
    assert "None" not in card and "nan" not in card and "drawn" not in card  # it learned a CSV of videos


def test_only_what_learned_drawn_pictures_is_called_a_demonstration(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, mixed = study.protocol, protocol("ucf101_vispr1")
    store = Store(tmp_path, read_only=True)
    assert [pretrained.drawn(replace(study, protocol=each, store=store)) for each in (own, mixed)] == [False, True]
    monkeypatch.setattr(pretrained, "drawn", lambda study: True)
    card = (export(study, "spact", tmp_path / "spact") / "README.md").read_text()
    assert "**A demonstration.** It learned from drawn pictures" in card
    assert card.count("(drawn, in place of the dataset of that name)") == 2 and "trial run" not in card
    start = config("anonymizer", "mini", "mini-mini-draw1/ucf101")["spec"]["f_T"]["f_A"]
    for settings, said in (
        (config("anonymizer", "mini", "mini-mini-draw1/ucf101"), "it learned from drawn pictures"),
        ({"spec": start}, "it learned from drawn pictures"),
        ({"spec": start, "method": "identity"}, "identity is f_A as it is before the game"),
        (config("anonymizer", "smoke", "mini-smoke-draw1/ucf101"), "it learned from drawn pictures"),
        (config("anonymizer", "smoke", "my"), "profile smoke only tries"),
        (config("anonymizer", "mini", "my"), ""),
        (config("anonymizer", "paper", "ucf101"), ""),
    ):
        assert warning(settings).startswith(said) and bool(warning(settings)) == bool(said)


def test_who_makes_files_with_it_is_told_that_it_protects_nobody(
    study: Study, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    source = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 34, 3), np.uint8), 25)
    said = "protects nobody"
    for _ in range(2):  # also where the video is finished already
        with pytest.raises(SystemExit) as stop:
            cli.main(["anonymize", str(source), str(tmp_path / "b.mp4"), "--anonymizer", str(exported)])
        lines = [line for line in capsys.readouterr().out.splitlines() if said in line]
        assert stop.value.code == 0 and len(lines) == 1 and lines[0].startswith("anonymize: warning: profile smoke")
    assert warning(read_config(exported)) in lines[0]


def test_the_command_draws_nothing_for_ones_own_videos_or_before_it_has_looked(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def drawing(*arguments: object, **named: object) -> None:
        raise UserError("it draws")

    monkeypatch.setattr(mini, "draw", drawing)
    monkeypatch.setattr(pretrained, "export", lambda study, method, path: folder(path, profile="smoke"))
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    own = ["--protocol", f"{tiny_csv}:action/attributes"]
    for arguments, said in (
        (["new", *own], "export: "),
        (["other"], "it draws"),
        (["other", "--method", "obf_blackening"], "`spact anonymize --anonymizer obf_blackening` knows it by name"),
        (["other", "--method", "noise_features"], "noise_features is not offered: "),
        (["full"], "is already there"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["export", str(tmp_path / arguments[0]), "--profile", "smoke", *arguments[1:]])
        printed = capsys.readouterr()
        assert said in printed.out + printed.err and stop.value.code == (0 if said == "export: " else 2)
        assert ("export: warning: profile smoke only tries" in printed.out) == (said == "export: ")


def die(study: Study, folder: Path, owner: object, name: str, after: bool) -> None:
    real = getattr(owner, name)

    def killed(*given: object) -> None:
        if after:
            real(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)
    export(study, "spact", folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), [(shutil, "copyfile"), (pretrained, "model_card"), (os, "replace")])
def test_killed_an_export_is_whole_or_not_there_and_the_next_is_whole(
    study: Study, exported: Path, tmp_path: Path, owner: object, name: str, after: bool
) -> None:
    folder = tmp_path / "spact"
    process = multiprocessing.get_context("fork").Process(target=die, args=(study, folder, owner, name, after))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and folder.exists() == (name == "replace" and after)
    if not folder.exists():
        export(study, "spact", folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in exported.iterdir()}


def test_an_identity_has_a_card_too(study: Study, tmp_path: Path) -> None:
    card = (export(study, "identity", tmp_path / "identity") / "README.md").read_text()
    assert "initialised to the identity (Eq. 4): 2 steps" in card and "minimax" not in card


def test_an_export_runs_on_videos(exported: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 20, 34, 3), dtype=np.uint8)
    source, out = write_video(tmp_path / "a.mp4", frames, 25), tmp_path / "b.mp4"
    done, failed = anonymize([(source, out)], load_method(str(exported)), Settings())
    assert not failed and done[out].processed == (27, 16) and done[out].method_seconds > 0
    assert (probe(out).frames, probe(out).width, probe(out).height) == (5, 34, 20)


def test_the_readmes_code_shows_a_clip_and_its_release(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported, "runs/demo")
    write_video(Path("holiday.mp4"), np.zeros((25, 20, 34, 3), np.uint8), 25).rename("holiday.mov")
    section = README.read_text(encoding="utf-8").partition("## Anonymize a video")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    exec(compile(code, str(README), "exec"), names := {})
    assert names["a"].shape == names["b"].shape == (3, 16, 27, 3) and names["b"].dtype == np.uint8


def test_what_cannot_be_exported(study: Study, exported: Path, tmp_path: Path) -> None:
    for method, message in (
        ("downsample_2x", "downsample_2x has no f_A to export"),
        ("noise_features", "noise_features is not offered"),
        ("spatc", "unknown method 'spatc'"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            export(study, method, tmp_path / "out")
    for name in str(refused.value).partition("choose one of: ")[2].split(", "):
        pretrained.check(name, tmp_path / "out")  # what is offered is not refused then
    with pytest.raises(UserError, match="is already there"):
        export(study, "spact", exported)


def test_of_two_exports_to_one_folder_the_slower_one_is_refused(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def too_late(source: Path, target: Path) -> None:
        if target == tmp_path / "spact":
            target.mkdir()
            (target / "README.md").touch()
        rename(source, target)

    monkeypatch.setattr(os, "replace", too_late)
    with pytest.raises(UserError, match="is already there"):
        export(study, "spact", tmp_path / "spact")
    assert [path.name for path in tmp_path.iterdir()] == ["spact"]


def config(kind: str, profile: str, action: str) -> dict:
    start = {"action": {"name": action}, "schedule": {"steps": 6}}
    return {"profile": profile, "spec": {"kind": kind, "f_T": {"f_A": start}, "schedule": {"steps": 4}}}


def spec(width: int = 2, side: int = 16) -> dict:
    return {"width": width, "precision": "float32", "view": {"stored_side": side}}


def folder(path: Path, **changes: object) -> Path:
    path.mkdir()
    save_model(Anonymizer(2), path / WEIGHTS)
    config = {
        "format": FORMAT, "width": 2, "short_side": 16, "precision": "float32", "sha256": digest(path / WEIGHTS),
        "spec": {"f_T": {"f_A": spec()}},
    }  # fmt: skip
    (path / CONFIG).write_text(json.dumps(config | changes))
    return path


LARGE = {"width": 4096, "spec": spec(4096)}


class Trap:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (LARGE, f"{WEIGHTS} does not fit the config.json"),  # of 280 GB: refused before it is built
        ({"width": 4, "spec": spec(4)}, f"{WEIGHTS} does not fit the config.json"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}, newer than {FORMAT}, .*update spact"),
        ({"format": FORMAT - 1}, f"has format {FORMAT - 1}, and not {FORMAT}; export it again"),
        ({"format": None}, "not the config of an exported anonymizer"),
        ({"width": "2"}, "not the config of an exported anonymizer"),
        ({"width": 10**9}, "not the config of an exported anonymizer"),
        ({"short_side": 15}, "config.json says frames with a short side of 15 pixels, but f_A takes at least 16; give"),
        ({"precision": "float8"}, "not the config of an exported anonymizer"),
        ({"sha256": None}, "not the config of an exported anonymizer"),
        *(({"spec": spec}, "not the config of an exported anonymizer") for spec in (None, [], "f_A")),
        *(
            ({"spec": spec}, "config.json holds the spec of something else; export the anonymizer again")
            for spec in ({}, {"view": None}, {"f_T": "x"}, {"f_T": {"f_A": None}}, {"f_T": {"f_A": {"view": [1]}}})
        ),
        ({"spec": spec(3)}, "says width 2, and 3 in its spec"),
        ({"precision": "bfloat16"}, "says precision bfloat16, and float32 in its spec"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Anonymizer.from_pretrained(folder(tmp_path / "a", **changes))


def test_weights_and_settings_of_other_folders_are_refused(tmp_path: Path) -> None:
    one, other = (folder(tmp_path / name) for name in "ab")
    for path in (one, other):
        save_model(Anonymizer(2), path / WEIGHTS)
        settings = json.loads((path / CONFIG).read_text()) | {"sha256": digest(path / WEIGHTS)}
        (path / CONFIG).write_text(json.dumps(settings))
        Anonymizer.from_pretrained(path)
    (one / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())  # of the same shapes
    with pytest.raises(UserError, match="does not fit"):
        Anonymizer.from_pretrained(one)
    (other / CONFIG).write_text(json.dumps(settings | {"spec": {"f_T": {"f_A": spec(side=32)}}}))
    with pytest.raises(UserError, match="says short_side 16, and 32 in its spec; export the anonymizer again"):
        Anonymizer.from_pretrained(other)


def test_the_settings_of_a_real_export_are_those_of_its_spec(exported: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(exported, tmp_path / "other"))
    settings = json.loads((other / CONFIG).read_text())
    (other / CONFIG).write_text(json.dumps(settings | {"short_side": 2 * settings["short_side"]}))
    with pytest.raises(UserError, match="in its spec; export the anonymizer again"):
        Anonymizer.from_pretrained(other)


def test_missing_and_damaged_files_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    good = folder(tmp_path / "a")
    assert not Anonymizer.from_pretrained(good).training
    content = (good / WEIGHTS).read_bytes()
    for damaged in (content[:-100], b"", pickle.dumps(Trap())):
        (good / WEIGHTS).write_bytes(damaged)
        with pytest.raises(UserError, match="does not fit"):
            Anonymizer.from_pretrained(good)
    torch.save(Anonymizer(2).state_dict(), good / WEIGHTS)
    with pytest.raises(UserError, match="does not fit"):
        Anonymizer.from_pretrained(good)
    (good / WEIGHTS).unlink()
    with pytest.raises(UserError, match=f"holds no {WEIGHTS}"):
        Anonymizer.from_pretrained(good)
    (good / CONFIG).write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        Anonymizer.from_pretrained(good)
    with pytest.raises(UserError, match=f"holds no {CONFIG}"):
        load_method(str(tmp_path))
