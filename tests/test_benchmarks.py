import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from spact_lib.errors import UserError


def test_a_round_runs_each_variant_once_and_the_next_one_begins_with_another() -> None:
    seen: list[str] = []
    seconds = harness.interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, rounds=2, warmup=1)
    assert seen == list("abc" + "bca" + "cab")
    assert {name: len(own) for name, own in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_rows_tell_the_median_and_the_median_ratio_of_the_rounds() -> None:
    seconds = {"plain": [2.0, 9.0, 4.0], "ours": [1.0, 3.0, 4.0]}  # ratios 2, 3, 1; the ratio of the medians is 4 / 3
    plain, ours = harness.rows("a case", seconds, "plain", peak_MB={"ours": 7})
    assert (plain["ms"], plain["times faster"], "peak MB" in plain) == (4000.0, 1.0, False)
    assert (ours["ms"], ours["times faster"], ours["peak MB"]) == (3000.0, 2.0, 7)


def fill(megabytes: int) -> None:
    np.ones(megabytes * 10**6, dtype=np.uint8)


def test_peak_memory_is_of_the_child_alone() -> None:
    ballast = np.ones(600 * 10**6, dtype=np.uint8)  # of this process; must not count
    less, more = harness.peak_memory(fill, 1), harness.peak_memory(fill, 301)
    assert ballast[-1] and 290 < more - less < 310


def test_a_run_writes_records_from_which_the_readme_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FOLDER", tmp_path)
    assert harness.text().startswith("No benchmark is committed yet")
    made = harness.rows("a case", {"plain": [0.002], "ours": [0.001]}, "plain")
    monkeypatch.setattr(harness, "import_module", lambda name: type("Module", (), {"run": staticmethod(lambda: made)}))
    said: list[str] = []
    (path,) = harness.run(["minimax"], tell=said.append)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["variant"] for row in records] == ["plain", "ours"] and records[0]["environment"]["cores"] > 0
    assert re.search(r"\| a case \| ours +\| 1\.0 +\| 2\.0 ", harness.text()) and said[0] in harness.text()
    with pytest.raises(UserError, match="unknown benchmark 'mini'; choose one of: .*minimax"):
        harness.run(["mini"])
