"""Whatever is given for a field of a profile, a notebook's parameter or an option: it fits, or one sentence refuses it
before anything is drawn, trained or written."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep import mini
from spact_lib import cli, notebooks
from spact_lib.branches import BRANCHES, build_branch
from spact_lib.config import Profile, profile
from spact_lib.errors import UserError
from spact_lib.methods import F_B, METHODS, LearnedMethod
from spact_lib.paths import NOTEBOOKS, committed_notebooks
from spact_lib.protocols import protocol
from spact_lib.store import Store
from spact_lib.study import Study

# --- profiles ---

AT_LEAST_1 = {"width", "steps", "batch", "stored_side", "size", "n_frames", "stride", "test_clips", "evaluations"}
AT_LEAST_1 |= {"moco_queue", "privacy_batch"}
ABOVE_0 = {"lr", "temperature", "norm_momentum", "crop", "test_crop"}
AT_MOST_1 = {"crop", "test_crop", "flip", "gray", "erase", "norm_momentum", "moco_momentum"}


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], object]]:
    """Every value of nested dicts and tuples that is neither."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else None
    if parts is None:
        return [(path, value)]
    return [leaf for key, part in parts for leaf in leaves(part, (*path, key))]


def put(value: object, path: tuple[str | int, ...], new: object) -> object:
    """``value`` with ``new`` at a path."""
    if not path:
        return new
    if isinstance(value, tuple):
        return tuple(put(part, path[1:], new) if k == path[0] else part for k, part in enumerate(value))
    return value | {path[0]: put(value[path[0]], path[1:], new)}


def assert_usable(settings: Profile) -> None:
    for path, value in leaves(settings.model_dump()):
        name = next(part for part in reversed(path) if isinstance(part, str))
        if isinstance(value, int | float):
            assert math.isfinite(value) and value >= (1 if name in AT_LEAST_1 else 0), path
            assert value > 0 or name not in ABOVE_0, path
            assert value <= 1 or name not in AT_MOST_1, path
    assert settings.omegas and settings.sigmas and settings.target_seeds
    assert all(view.crop[0] <= view.crop[1] for view in (settings.action_view, settings.privacy_view))


SMOKE = profile("smoke").model_dump()
anything = st.one_of(
    st.integers(-3, 3), st.floats(), st.text(max_size=3), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)
)


@settings(max_examples=300)
@given(st.sampled_from([path for path, _ in leaves(SMOKE) if path != ("name",)]), anything)
def test_a_field_of_a_profile_fits_or_is_named(path: tuple[str | int, ...], value: object) -> None:
    try:
        changed = profile("smoke", **{path[0]: put(SMOKE, path, value)[path[0]]})
    except UserError as error:
        assert str(error).startswith(f"profile setting {path[0]}") and "\n" not in str(error)
    else:
        assert_usable(changed)


NETWORKS = [name for name, value in SMOKE.items() if name.endswith(("f_T", "f_B")) and isinstance(value, str)]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unknown_architecture_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"unknown (action|privacy) network 'r3d_slim\+?x'; choose one of"):
        Study(profile("smoke", **{name: "r3d_slimx"}), protocol("my.csv:a/b"), Store(tmp_path, read_only=True))


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True, None])
def test_a_seed_is_an_integer_from_0_up(tmp_path: Path, seed: object) -> None:
    with pytest.raises(UserError, match="^the seed is .*; give an integer from 0 up$"):
        Study(profile("smoke"), protocol("my.csv:a/b"), Store(tmp_path, read_only=True), seed)


# --- parameters of notebooks ---

DECLARED = [(path, name) for path in committed_notebooks() for name in notebooks.declared_parameters(path)]
# What only the notebook itself can judge: paths of the reader's own, networks of one claim.
OWN = {"CLIP", "ANONYMIZER", "OTHER_TARGETS"}
NAMES = {"PROFILE", "PROTOCOL", "FURTHER", "METHODS", "TABLE", "ATTACKS", "CLIP_METHODS", "CLIP_ATTACKS"}


def test_every_parameter_of_a_committed_notebook_has_its_check() -> None:
    unchecked = {
        name
        for path, name in DECLARED
        if not isinstance(notebooks.declared_parameters(path)[name], bool)
        and name not in NAMES | OWN | notebooks.FITTING.keys()
    }
    assert not unchecked, "add them to notebooks.FITTING"


@settings(max_examples=100)
@given(st.sampled_from(DECLARED), anything | st.lists(st.lists(st.integers(-1, 3), max_size=3), max_size=2))
@example((NOTEBOOKS / "14_how_hard_did_we_attack.ipynb", "ATTACKS"), [[]])
def test_a_notebooks_parameter_fits_or_is_named(declared: tuple[Path, str], value: object) -> None:
    path, name = declared
    try:
        notebooks.check_parameters(path, {name: value})
    except UserError as error:
        assert "\n" not in str(error) and (name in str(error) or str(error).startswith("unknown "))
        return
    default = notebooks.declared_parameters(path)[name]
    assert isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if name in ("DRAW", "SEED"):
        assert value >= 0
    if name in ("SHOWN", "ITEMS", "BY_HAND"):
        assert value > 0
    if name in ("OMEGAS", "SUPERVISED_OMEGAS"):
        assert all(math.isfinite(omega) and omega >= 0 for omega in value)
    if name == "TARGET_SEEDS":
        assert sorted(set(value)) == sorted(value) and all(type(seed) is int and seed >= 0 for seed in value)
    if name == "REPLICATES":
        assert all(len(pair) == 2 and min(pair) >= 0 for pair in value)
    if name in ("PROFILE", "TABLE", "METHODS", "FURTHER"):
        assert value == []  # no name is three letters long


# --- options ---

NOTHING = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=4).filter(lambda text: text.strip(". "))
NO_NUMBER = NOTHING.filter(lambda text: not text.strip().lstrip("+-").isnumeric())


def below(number: int) -> st.SearchStrategy[str]:
    return st.integers(-(10**20), number - 1).map(str) | NO_NUMBER


ANONYMIZE = ("anonymize", "CLIP", "TMP/out.mp4", "--anonymizer", "downsample_2x")
SUBMIT = ("submit", "spact", "--profile", "smoke", "--cluster", "local", "--jobs", "1")
CLIPS = ("CSV", "--action", "action", "--privacy", "person", "--leave-out", "person")
OPTIONS: dict[str, tuple[tuple[str, ...], st.SearchStrategy[str]]] = {
    "prepare NAME": (("prepare", "?"), NOTHING),
    "prepare --draw": (("prepare", "mini", "--draw", "?"), below(0)),
    "prepare --scale": (("prepare", "mini", "--scale", "?"), NOTHING),
    "prepare --split": (("prepare", "ucf101", "--root", "TMP", "--split", "?"), below(1) | st.just("4")),
    "prepare --root": (("prepare", "vispr", "--root", "?"), NOTHING),
    "report": (("report", "?"), NOTHING),
    "cache": (("cache", "?", "--out", "TMP/new", "--short-side", "64"), NOTHING),
    "cache --short-side": (("cache", "CSV", "--out", "TMP/new", "--short-side", "?"), below(16) | st.just("17")),
    "cache --fps": (
        ("cache", "CSV", "--out", "TMP/new", "--short-side", "16", "--fps", "?"),
        NO_NUMBER.filter(lambda text: not text[:1].isdigit() and not text[1:2].isdigit())
        | st.sampled_from(["nan", "inf", "0", "-1", "1000"]),
    ),
    "reproduce --profile": (("reproduce", "--profile", "?"), NOTHING),
    "reproduce --jobs": (("reproduce", "--profile", "smoke", "--jobs", "?"), below(1)),
    "reproduce --until": (("reproduce", "--profile", "smoke", "--until", "?"), NOTHING.filter(lambda t: t not in "01")),
    "claims --profile": (("claims", "--profile", "?"), NOTHING),
    "claims --draw": (("claims", "--profile", "smoke", "--draw", "?"), below(101) | st.just("106")),
    "claims --jobs": (("claims", "--profile", "smoke", "--draw", "101", "--jobs", "?"), below(1)),
    "bench NAMES": (("bench", "?"), NOTHING),
    "train METHODS": (("train", "?", "--profile", "smoke"), NOTHING),
    "train --profile": (("train", "spact", "--profile", "?"), NOTHING),
    "train --protocol": (("train", "spact", "--profile", "smoke", "--protocol", "?"), NOTHING),
    "train --draw": (("train", "spact", "--profile", "smoke", "--draw", "?"), below(0)),
    "train --seeds": (("train", "spact", "--profile", "smoke", "--seeds", "?"), below(0)),
    "submit METHODS": (("submit", "?", *SUBMIT[2:]), NOTHING),
    "submit --profile": ((*SUBMIT, "--profile", "?"), NOTHING),
    "submit --protocol": ((*SUBMIT, "--protocol", "?"), NOTHING),
    "submit --draw": ((*SUBMIT, "--draw", "?"), below(0)),
    "submit --seeds": ((*SUBMIT, "--seeds", "?"), below(0)),
    "submit --jobs": ((*SUBMIT, "--jobs", "?"), below(1)),
    "submit -p NAME": ((*SUBMIT, "-p", "?", "1"), NOTHING),
    "doctor --profile": (("doctor", "--profile", "?"), NOTHING),
    "run": (("run", "?"), NOTHING.filter(lambda text: text not in "0123456789")),
    "run -p NAME": (("run", "04", "-p", "?", "1"), NOTHING),
    "run -p SEED": (("run", "04", "-p", "SEED", "?"), below(0)),
    "run -p PROTOCOL": (("run", "04", "-p", "PROTOCOL", "?"), NOTHING),
    "evaluate": (("evaluate", "?", *CLIPS[1:]), NOTHING),
    "evaluate --leave-out": (("evaluate", *CLIPS[:-1], "?"), NOTHING),
    "evaluate --action": (("evaluate", "CSV", "--action", "?", *CLIPS[3:]), NOTHING),
    "evaluate --privacy": (("evaluate", *CLIPS[:4], "?", *CLIPS[5:]), NOTHING),
    "evaluate --profile": (("evaluate", *CLIPS, "--profile", "?"), NOTHING),
    "evaluate --methods": (("evaluate", *CLIPS, "--methods", "?"), NOTHING),
    "evaluate --seed": (("evaluate", *CLIPS, "--seed", "?"), below(0)),
    "anonymize": (("anonymize", "?", "TMP/out.mp4", "--anonymizer", "downsample_2x"), NOTHING),
    "anonymize OUTPUT": (("anonymize", "CLIP", "?", "--anonymizer", "downsample_2x"), NOTHING),
    "anonymize --anonymizer": (("anonymize", "CLIP", "TMP/out.mp4", "--anonymizer", "?"), NOTHING),
    "anonymize --jobs": ((*ANONYMIZE, "--jobs", "?"), below(1)),
    "anonymize --short-side": ((*ANONYMIZE, "--short-side", "?"), below(1)),
    "anonymize --size": ((*ANONYMIZE, "--size", "?"), NOTHING),
    "export --profile": (("export", "TMP/new", "--profile", "?"), NOTHING),
    "export --method": (("export", "TMP/new", "--method", "?"), NOTHING),
    "export --protocol": (("export", "TMP/new", "--protocol", "?"), NOTHING),
    "export --seed": (("export", "TMP/new", "--profile", "smoke", "--seed", "?"), below(0)),
}


# Of what is read, judged with --root and the reader's own names (test_data_prep*); of what is made, any is right.
PLACES = {
    *("prepare --out", "prepare --lists", "prepare --annotations", "prepare --without-pa"),
    *("report --output", "cache --out", "run --output", "export OUTPUT"),
}
OF_THE_CLIP = {"report --anonymizer", "report --profile", "report --protocol"}  # parameters of notebook 13; above


def test_every_option_that_takes_any_text_is_tried() -> None:
    (verbs,) = (action.choices for action in cli.parser()._actions if action.choices and not action.option_strings)
    free = {
        f"{verb} {action.option_strings[-1] if action.option_strings else action.dest.upper()}"
        for verb, parser in verbs.items()
        for action in parser._actions
        if action.nargs != 0 and not action.choices
    }
    tried = {key.replace(" -p ", " --parameter ") for key in OPTIONS}
    untried = {
        option for option in free - PLACES - OF_THE_CLIP
        if not any(key == option or key.startswith(f"{option} ") for key in tried)
        and not (option.partition(" ")[2].isupper() and option.partition(" ")[0] in tried)
    }  # fmt: skip
    assert not untried


def refuse(*arguments: object, **named: object) -> None:
    raise AssertionError("it began to draw data before it had looked at its options")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_csv: Path):
    """An empty store and working folder; nothing may be drawn or executed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("nothing")
        csv = folder / "tiny.csv"  # with one task that can be left out by group, as `spact evaluate` asks for
        lines = tiny_csv.read_text().splitlines()
        csv.write_text("\n".join([lines[0].replace(",person", ",person:single"), *lines[1:]]) + "\n")
        (folder / "clips").symlink_to(tiny_csv.parent / "clips")
        (folder / "work").mkdir()
        patch.chdir(folder / "work")
        patch.setenv("SPACT_RUNS", str(folder / "runs"))
        patch.setenv("SPACT_DEVICE", "cpu")
        patch.delenv("SPACT_DATA", raising=False)
        patch.setattr(mini, "plan", refuse)  # the first thing that a drawing does
        yield folder


@pytest.mark.parametrize("option", OPTIONS)
def test_a_bad_option_is_one_sentence(place: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    template, bad = OPTIONS[option]
    known = {"TMP": str(place), "CSV": str(place / "tiny.csv"), "CLIP": str(place / "clips" / "00.avi")}

    @settings(max_examples=8)
    @given(bad)
    def every(value: str) -> None:
        arguments = [known.get(part, part.replace("TMP", str(place))) for part in template]
        with pytest.raises(SystemExit) as stop:
            cli.main([value if part == "?" else part for part in arguments])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said, value
        assert "error: " in said.splitlines()[-1] and "Traceback" not in said

    every()
    assert not (place / "runs" / "store").exists() and not list((place / "work").iterdir())


def test_a_misspelt_row_of_ones_own_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(profile("smoke"), protocol("my.csv:a/b"), Store(tmp_path, read_only=True))
    for row, sentence in {
        ("nt_xentt",): "unknown L_B 'nt_xentt'",
        ("nt_xent", "slim9"): "unknown privacy network 'slim9'",
        ("nt_xent", "own", "far"): "unknown frame sampler 'far'",
    }.items():
        monkeypatch.setitem(METHODS, "mine", LearnedMethod(*row))
        with pytest.raises(UserError, match=f"^{sentence}; choose one of"):
            study.check(["mine"])
    for f_T in ("r3d_slimx", "target"):  # "target_f_T" is a field of a profile, but no f_T of a game
        monkeypatch.setitem(METHODS, "mine", LearnedMethod("nt_xent", f_T=f_T))
        with pytest.raises(UserError, match=f"^unknown action network '{f_T}'"):
            study.check(["mine"])
    for kind, sentence in {
        "basline": "unknown kind of method 'mine': 'basline'; choose one of: a LearnedMethod, ba",
        "baseline": "unknown baseline 'mine'; choose one of",
        "obfuscation": "unknown obfuscation 'mine'; choose one of",
    }.items():
        monkeypatch.setitem(METHODS, "mine", kind)
        with pytest.raises(UserError, match=f"^{sentence}"):
            study.check(["mine"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"omega": "sact"}, "omega 'sact' of method 'mine': give a number from 0 up, None"),
        ({"omega": -0.5}, "omega -0.5 of method 'mine': give a number from 0 up, None"),
        ({"omega": math.nan}, "omega nan of method 'mine': give a number from 0 up, None"),
        ({"f_B_steps": 0}, "f_B_steps 0 of method 'mine': give an integer from 1 up$"),
        ({"f_B_steps": 1.5}, "f_B_steps 1.5 of method 'mine': give an integer from 1 up$"),
        ({"f_B_steps": 3, "update_f_B": False}, "method 'mine' freezes its f_B .*; leave out one of the two$"),
        (
            {"loss": "supervised", "clamp_L_B": True},
            "method 'mine' clamps L_B 'supervised' .* has no uninformative value; leave it out$",
        ),
    ],
)
def test_a_setting_of_a_row_that_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict, sentence: str
) -> None:
    study = Study(profile("smoke"), protocol("my.csv:a/b"), Store(tmp_path, read_only=True))
    monkeypatch.setitem(METHODS, "mine", LearnedMethod(**{"loss": "nt_xent"} | settings))
    with pytest.raises(UserError, match=f"^{sentence}"):
        study.check(["mine"])


@pytest.mark.parametrize("loss", BRANCHES)
def test_an_f_B_is_refused_before_anything_is_trained_or_can_be_asked_by_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    study = Study(profile("smoke"), protocol("my.csv:a/b"), Store(tmp_path, read_only=True))
    batch = {"image": torch.rand(3, 1, 3, 8, 8), "image_further": torch.rand(3, 1, 3, 8, 8)}
    batch["image_label"] = torch.tensor([0, 1, 1])
    refused = {}
    for f_B in (*F_B, "slim4+slim8", "r3d_slim", "slim4+r3d_slim"):
        monkeypatch.setitem(METHODS, "mine", LearnedMethod(loss, f_B=f_B))
        try:
            study.check(["mine"])
        except UserError as error:
            refused[f_B] = str(error)
            continue
        branch = build_branch(METHODS["mine"].branch(study), 2)
        assert branch.spec.n_frames == (study.profile.video_f_B_frames if f_B in ("video", "r3d_slim") else 1)
        batch["pair"] = torch.rand(3, 2 * branch.spec.n_frames, 3, 8, 8)
        assert torch.isfinite(branch.loss(branch.build(), branch.frames(batch), batch))
    clips = {"video", "r3d_slim"} if loss in ("supervised", "rotnet", "nt_xent_stills") else set()
    ensembles = {"slim4+r3d_slim"} | ({"slim4+slim8"} if loss == "moco" else set())
    assert set(refused) == clips | ensembles
    for f_B in clips:
        assert re.fullmatch(
            f"L_B '{loss}' of method 'mine' asks an f_B of frames, but f_B '{f_B}' sees clips; "
            "choose another f_B, or one of the L_B moco, nt_xent",
            refused[f_B],
        )
