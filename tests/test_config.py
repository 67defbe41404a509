import shutil
import warnings
from pathlib import Path

import pytest
from pydantic import BaseModel

from spact_lib import tables
from spact_lib.action_losses import ACTION_LOSSES, build_action_loss
from spact_lib.baselines import BASELINES, baseline
from spact_lib.branches import BRANCHES, build_branch
from spact_lib.config import PROFILES, ActionLossSpec, BranchSpec, Profile, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.methods import METHODS
from spact_lib.protocols import PROTOCOLS, Role, data_spec, protocol
from spact_lib.store import Store, manifest_of
from spact_lib.study import Study

SMOKE = profile("smoke")


def study(csv: Path, profile: Profile = SMOKE, **options: object) -> Study:
    return Study(profile, protocol(f"{csv}:action/attributes"), Store(csv.parent / "store", read_only=False), **options)


# --- keys ---


def variants(value: object) -> list[tuple[str, object]]:
    """Every way to change one leaf of a spec: (path, changed spec)."""
    if isinstance(value, BaseModel):
        names = [name for name, info in type(value).model_fields.items() if not info.exclude]
        return [
            (f".{name}{path}", value.model_copy(update={name: changed}))
            for name in names
            for path, changed in variants(getattr(value, name))
        ]
    if isinstance(value, bool):
        return [("", not value)]
    if isinstance(value, tuple):
        return [("", (*value, 0.123))]
    return [("", value + 1 if isinstance(value, int | float) else f"{value}x")]


@pytest.mark.parametrize("branch", ["spact", "supervised", "tedspad"])
def test_every_field_of_a_spec_is_in_its_key(tiny_csv: Path, branch: str) -> None:
    one = study(tiny_csv)
    spec = one.target_spec(one.anonymizer(branch, 0.5), "privacy")
    changed = dict(variants(spec))
    assert len(changed) > 100 and ".release.method.f_B.branch.temperature" in changed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic warns of the "x" in fields with fixed choices
        keys = {path: other.key() for path, other in changed.items()}
    assert [path for path, key in keys.items() if key == spec.key()] == []
    # f_A's start stands in the spec twice, below f_T and below f_B; otherwise no two changes are the same.
    assert len(set(keys.values())) == len(keys)


def test_the_key_does_not_depend_on_where_the_data_lie(tiny_csv: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_csv.parent / "clips", tmp_path / "clips")
    copy = Path(shutil.copy(tiny_csv, tmp_path / "tiny.csv"))
    here, there = (study(csv).anonymizer("spact", 0.5) for csv in (tiny_csv, copy))
    assert here.key() == there.key() and here.f_A.action.folder != there.f_A.action.folder
    assert str(tmp_path) not in there.model_dump_json()


def test_other_files_under_the_same_names_are_other_data(tiny_csv: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_csv.parent / "clips", tmp_path / "clips")
    copy = Path(shutil.copy(tiny_csv, tmp_path / "tiny.csv"))
    with open(tmp_path / "clips" / "03.avi", "ab") as file:
        file.write(b"0")
    assert study(copy).init_f_A.key() != study(tiny_csv).init_f_A.key()


def test_an_edited_table_is_read_again_by_the_same_process(tiny_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").symlink_to(tiny_csv.parent / "clips")
    copy = Path(shutil.copy(tiny_csv, tmp_path / "tiny.csv"))
    before = study(copy).init_f_A
    copy.write_text(copy.read_text().replace("00.avi,train", "00.avi,test"))
    after = study(copy).init_f_A
    assert before.key() != after.key()
    splits = [manifest_of(spec.action).rows["split"][0] for spec in (before, after)]
    assert splits == ["train", "test"]


def test_a_fold_changes_the_targets_but_not_the_frames(tiny_csv: Path) -> None:
    whole, fold = study(tiny_csv), study(tiny_csv, leave_out=("person", "a"))
    raw = whole.method("raw")
    assert whole.target_spec(raw, "action").key() != fold.target_spec(raw, "action").key()
    assert whole.init_f_A.key() != fold.init_f_A.key()
    assert whole.target_spec(raw, "action").release == fold.target_spec(raw, "action").release


def test_learned_rows_share_their_start_and_f_T(tiny_csv: Path) -> None:
    one = study(tiny_csv)
    spact, supervised = (one.anonymizer(name, 0.5) for name in ("spact", "supervised"))
    assert spact.f_T == supervised.f_T and spact.f_A == supervised.f_A == one.method("identity")
    assert spact.f_B.branch.loss == "nt_xent" and spact.f_B.branch.task is None  # no privacy label
    assert supervised.f_B.branch.task == "attributes"


def test_targets_of_a_downsampled_release_see_small_frames(tiny_csv: Path) -> None:
    one = study(tiny_csv)
    for name, size in {"raw": 32, "downsample_2x": 16, "downsample_4x": 8, "downsample_4x_up": 32}.items():
        assert one.target_spec(one.method(name), "action").view.size == size


@pytest.mark.parametrize("name", ["r2plus1d_f_T", "mc3_f_T"])
def test_another_f_T_changes_f_T_alone_and_no_target(tiny_csv: Path, name: str) -> None:
    one = study(tiny_csv)
    spact, other = (one.anonymizer(each, 0.5) for each in ("spact", name))
    network = getattr(SMOKE, name)
    assert other == spact.model_copy(update={"f_T": spact.f_T.model_copy(update={"network": network})})
    assert one.target_spec(other, "action").network == one.target_spec(spact, "action").network == SMOKE.target_f_T


def test_a_target_of_another_architecture_judges_the_same_f_A(tiny_csv: Path) -> None:
    one = study(tiny_csv)
    networks = {"action": SMOKE.mc3_f_T, "privacy": SMOKE.larger_f_B}
    others = study(tiny_csv, profile("smoke", target_f_T=networks["action"], target_f_B=networks["privacy"]))
    spact = one.anonymizer("spact", 0.5)
    assert others.anonymizer("spact", 0.5) == spact
    for role, network in networks.items():
        own, other = one.target_spec(spact, role), others.target_spec(spact, role)
        assert other == own.model_copy(update={"network": network}) and other.release == own.release


# --- profiles ---


def test_every_profile_survives_a_round_trip() -> None:
    for name, value in PROFILES.items():
        assert value.name == name and Profile.model_validate(value.model_dump()) == value


def test_changes_are_validated() -> None:
    changed = profile("mini", omegas=[0.3], init_f_A={"steps": 7, "batch": 2, "lr": 0.1})
    assert changed.omegas == (0.3,) and changed.init_f_A == Schedule(steps=7, batch=2, lr=0.1)
    assert profile("mini").init_f_A.steps != 7


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tiny", {}, "^unknown profile 'tiny'; choose one of: mini, paper, smoke$"),
        ("mini", {"omega": 1}, "^unknown profile setting 'omega'; choose one of: .*omegas.*"),
        ("mini", {"width": "wide"}, "^profile setting width: .*integer.*'wide'$"),
        ("mini", {"omegas": []}, "^profile setting omegas: .*at least 1 item"),
        ("mini", {"minimax": {"steps": -1, "batch": 2, "lr": 1}}, "^profile setting minimax.steps: .*greater.*-1$"),
        ("mini", {"minimax": {"steps": 1, "batch": 2, "lr": 1, "rate": 1}}, "^profile setting minimax.rate: Extra"),
    ],
)
def test_bad_profiles_are_one_sentence(name: str, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        profile(name, **changes)
    assert "\n" not in str(caught.value)


# --- names ---


def test_a_protocol_is_a_name_or_ones_own_dataset() -> None:
    assert protocol("ucf101_vispr1").targets["privacy"].learns == Role("vispr", "vispr1")
    own = protocol("/a:b/mine.csv:gesture/person")
    assert own.action == own.targets["action"].learns == Role("/a:b/mine.csv", "gesture")
    assert own.privacy == own.targets["privacy"].learns == Role("/a:b/mine.csv", "person")
    for name in ("ucf", "mine:action", "mine:a/b/c"):
        with pytest.raises(UserError, match=f"unknown protocol '{name}'; choose one of: DATASET:.*{[*PROTOCOLS][0]}"):
            protocol(name)
    with pytest.raises(UserError, match="'person' cannot be both the action to keep and the privacy to hide"):
        protocol("mine.csv:person/person")


def test_unknown_names_and_data_are_refused_before_any_training(tiny_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"unknown method 'spct'; choose one of: {', '.join(sorted(METHODS))}"):
        study(tiny_csv).method("spct")
    with pytest.raises(UserError, match=f"unknown baseline 'blur'; choose one of: {', '.join(sorted(BASELINES))}"):
        baseline("blur")
    with pytest.raises(UserError, match=f"unknown L_B 'byol'; choose one of: {', '.join(sorted(BRANCHES))}"):
        build_branch(BranchSpec(loss="byol", network="slim8"), 0)
    with pytest.raises(UserError, match=f"unknown L_T 'ce'; choose one of: {', '.join(sorted(ACTION_LOSSES))}"):
        build_action_loss(ActionLossSpec(loss="ce"))
    with pytest.raises(UserError, match="no dataset at .*none.csv; give a CSV file or a folder with manifest.csv"):
        study(tmp_path / "none.csv")
    with pytest.raises(UserError, match="unknown task of dataset '.*': 'person'; choose one of: action, attributes"):
        Study(SMOKE, protocol(f"{tiny_csv}:action/person"), Store(tmp_path, read_only=False))
    with pytest.raises(UserError, match="unknown person to leave out 'c'; choose one of: a, b"):
        study(tiny_csv, leave_out=("person", "c"))
    one = study(tiny_csv)
    learned = "choose one of: frozen_f_B, .*, larger_f_B, .*, spact, .*, supervised, tedspad, weights_1_1$"
    with pytest.raises(UserError, match=f"unknown learned method 'raw'; {learned}"):
        one.choose_omega("raw")
    with pytest.raises(UserError, match=f"unknown learned method 'spct'; {learned}"):
        one.anonymizer("spct", 0.5)
    with pytest.raises(UserError, match="unknown method 'spct'"):
        tables.table("table1", one, methods=["spact", "spct"])
    assert not one.store.root.exists()


def test_the_printed_form_of_eq_5_and_its_temperature_are_settings_of_a_profile(tiny_csv: Path) -> None:
    other = study(tiny_csv, profile("smoke", both_directions=False, temperature=0.5))
    for name, expected in {"spact": (0.5, False), "moco": (0.5, True), "supervised": (0.1, True)}.items():
        branch = METHODS[name].branch(other)
        assert (branch.temperature, branch.both_directions) == expected, name
    assert METHODS["supervised"].branch(other) == METHODS["supervised"].branch(study(tiny_csv))
    with pytest.raises(UserError, match="profile setting temperature: .* greater than 0"):
        profile("smoke", temperature=0)


def test_moco_with_two_encoders_is_refused_at_the_start(tiny_csv: Path) -> None:
    with pytest.raises(UserError, match=r"MoCo keeps one queue .* not 'slim4\+slim8'; name one"):
        study(tiny_csv, profile("smoke", f_B="slim4+slim8")).check(["spact", "moco"])


def test_a_single_training_video_is_refused_at_the_start(tiny_csv: Path) -> None:
    header, *rows = tiny_csv.read_text().splitlines()
    few = [row for row in rows if "right" in row and (",train," not in row or row.startswith("clips/00"))]
    (path := tiny_csv.with_name("few.csv")).write_text("\n".join([header, *few]) + "\n")
    with pytest.raises(UserError, match="needs at least two; dataset 'few' has 1 of split 'train'"):
        study(path)
    with pytest.raises(UserError, match="the profile's smallest batch holds 1$"):
        study(tiny_csv, profile("smoke", minimax=Schedule(steps=1, batch=1, lr=1e-3)))


def test_what_is_not_prepared_says_how_to_prepare_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    monkeypatch.delenv("SPACT_DATA", raising=False)
    command = f"`spact prepare mini --draw {SMOKE.draw} --scale smoke`"
    with pytest.raises(UserError, match=f"'ucf101' is not prepared .*smoke-draw1/ucf101 .* {command}"):
        data_spec(SMOKE, "ucf101")
    with pytest.raises(UserError, match="'ucf101' is not prepared .* run `spact prepare ucf101 --root DIR`"):
        data_spec(profile("paper"), "ucf101")
