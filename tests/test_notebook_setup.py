"""What notebooks share: names of what a run writes."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import study as tiny_study

from spact_lib import notebook_figures
from spact_lib.config import DataSpec, profile
from spact_lib.errors import UserError
from spact_lib.methods import METHODS
from spact_lib.notebook_figures import show_released, without_training
from spact_lib.notebook_setup import suffix
from spact_lib.notebook_tables import _suffix
from spact_lib.notebooks import FULL, run_digest
from spact_lib.protocols import protocol
from spact_lib.store import Store
from spact_lib.study import Study


@pytest.mark.parametrize(
    ("changes", "seed", "named", "expected"),
    [
        ({}, 0, "ucf101_vispr1", ""),
        ({"draw": 2}, 1, "ucf101_vispr1", "-draw2-seed1"),
        ({"target_seeds": (0, 1)}, 0, "hmdb51_vispr1", "-hmdb51_vispr1-targets0_1"),
    ],
)
def test_only_the_default_run_gets_the_plain_name(changes, seed, named, expected):
    study = SimpleNamespace(profile=profile("mini", **changes), seed=seed)
    assert suffix(study, named) == expected


def test_names_that_lose_characters_are_told_apart() -> None:
    study = SimpleNamespace(profile=profile("mini"), seed=0)
    names = {suffix(study, f"/{folder}/{name}.csv:a/b") for folder, name in ("数甲", "数乙", ("x" * 300, "y"), "my")}
    assert len(names) == 4 and all(re.fullmatch(r"-[A-Za-z0-9_]{8,80}", name) for name in names)
    assert any(name.startswith("-m_y_csv_a_b_") for name in names)


def test_a_run_with_other_parameters_gets_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    study = SimpleNamespace(profile=profile("mini"), seed=0)
    for _, parameters in FULL:  # only train what the defaults show, or are named
        assert run_digest(parameters) == ""
    digests = [run_digest({"METHODS": methods, "TRAIN": True}) for methods in (["raw"], ["raw", "spact"])]
    assert len({"", *digests}) == 3
    monkeypatch.setenv("SPACT_RUN_DIGEST", digests[0])
    assert suffix(study) == f"-{digests[0]}" and suffix(study, "hmdb51_vispr1") == f"-hmdb51_vispr1-{digests[0]}"


def test_further_columns_and_rows_are_named_by_their_protocol() -> None:
    def of(name: str, default: str) -> str:
        return _suffix(SimpleNamespace(profile=profile("mini"), seed=0, protocol=protocol(name)), default)

    assert [of(name, "novel") for name in ("novel", "ucf101_vispr1")] == ["", "-ucf101_vispr1"]
    assert of("my.csv:a/b", "ucf101_vispr1").startswith("-my_csv_a_b_")


def test_a_strip_trains_no_further_row_and_looks_for_no_persons(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    one, drawn = tiny_study(tiny_csv, tmp_path), []
    monkeypatch.setattr(notebook_figures, "show", lambda fig, profile, name: drawn.append(fig.axes[0]))
    role, rows = one.protocol.action, ["raw", "downsample_4x_up", "obf_blackening", "noise_features", "tedspad"]

    def labels() -> list[str]:
        show_released(one, rows, role, "strip", items=2)
        return [text.get_text().replace("\n", " ") for text in drawn[-1].get_yticklabels()]

    assert labels() == ["Raw data"]  # of data that may be large, as a user's, not even what learns nothing is released
    said = "Downsample-4x, up again; Obf-Blackening; Noise-features (after [46]); TeD-SPAD's L_T\n"
    assert capsys.readouterr().out.endswith(said)
    assert {path.name for path in tmp_path.iterdir()} == {"frames"}
    one.store.run(one.release(one.method("downsample_4x_up"), role))
    assert labels() == ["Raw data", "Downsample-4x, up again"]
    with pytest.raises(UserError, match="unknown method 'obf'"):
        show_released(one, ["raw", "obf"], role, "strip")


def test_the_built_in_data_show_what_learns_nothing(tmp_path: Path) -> None:
    data = {name: DataSpec(name=name, folder=tmp_path, fingerprint=name) for name in ("ucf101", "vispr")}
    one = Study(profile("mini"), protocol("ucf101_vispr1"), Store(tmp_path, read_only=True), _data=data)
    shown = [name for name in METHODS if without_training(one, name, one.protocol.action)]
    assert shown == [name for name, kind in METHODS.items() if kind in ("baseline", "obfuscation")]
