"""What notebooks share: names of what a run writes."""

import re
from types import SimpleNamespace

import pytest

from spact_lib.config import profile
from spact_lib.notebook_setup import _suffix, suffix
from spact_lib.notebooks import FULL, run_digest
from spact_lib.protocols import protocol


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
