"""The README's blocks: what records and notebooks give."""

import re

import nbformat
import pandas as pd
import pytest
from made_up import SCORES
from nbformat.v4 import new_code_cell, new_notebook, new_output

from spact_lib import readme, tables
from spact_lib.errors import UserError


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.parent.name)
def test_pages_are_what_the_records_give(page):
    assert readme.filled(page) == page.read_text(encoding="utf-8"), "run: spact promote"


def test_readme_has_the_verdicts_of_notebook_12(tmp_path, monkeypatch):
    said = (
        "K1 kept: holds. a > -3, effect 1.0 [0.5, 1.5], paper -0.3.\nK2 falls: not run (0 of 5 replicates). s > 10 %.\n"
        "K8 it matters: twice as much: inconclusive (by Holm's p, 0.053). s > 0 %, effect 2.0 [1.0, 3.0]; a > -2, "
        "effect -1.1 [-1.8, -0.4], paper -0.1 (raw for identity).\nA note.\n"
    )
    cell = new_code_cell("print(verdicts.sentences(verdict))", outputs=[new_output("stream", text=said)])
    nbformat.write(new_notebook(cells=[new_code_cell("found = 1"), cell]), tmp_path / "12_claims.ipynb")
    monkeypatch.setattr(readme, "NOTEBOOKS", tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.claims().splitlines() if "|" in line]
    assert rows[2:] == [
        ["K1 kept", "holds", "a > -3", "1.0 [0.5, 1.5]", "-0.3"],
        ["K8 it matters: twice as much", "inconclusive", "s > 0 %", "2.0 [1.0, 3.0]", ""],
        ["", "", "a > -2", "-1.1 [-1.8, -0.4]", "-0.1 (raw for identity)"],
    ]
    notes = ["- K2 was not run.", "- K8: inconclusive (by Holm's p, 0.053).", "- A note."]
    assert readme.claims().splitlines()[-3:] == notes


def test_the_answer_is_short_and_made_of_records(committed, monkeypatch):
    lines = [("K1 kept", "holds", None, "a"), ("K2 falls", "fails", None, "s"), ("K3 both", "inconclusive", None, "a")]
    monkeypatch.setattr(readme, "_claims", lambda: lines)
    monkeypatch.setattr(readme, "_attackers", lambda: (pd.DataFrame(), []))
    rows = tables.table("table1", committed[0]).rename(index={"downsample_2x": "no_f_B"}, level="method")
    monkeypatch.setattr(readme, "_table", lambda notebook, name, methods: rows)
    first, second = readme.answer().splitlines()
    assert first == "- The paper's claims, tested over replicates: 1 hold (K1 kept), 1 fail (K2 falls), 1 inconclusive."
    assert "by -1.0 points and privacy cMAP by -25.0 % (raw data 80.0, chance 30.0)" in second
    assert second.endswith("the same game without f_B by -5.0 points and -10.0 %.")


def test_other_columns_are_those_that_are_at_hand(committed, monkeypatch):
    asked = []

    def at_hand(name, profile, protocol, pairs, methods, root):
        asked.append((name, protocol, (105, 5) in pairs))
        return committed * (protocol == "hmdb51_vispr1")

    monkeypatch.setattr(readme, "at_hand", at_hand)
    table, notes = readme.columns().split("\n\n")
    head, _, action, cmap = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    assert head[3:7] == ["Raw data", "Supervised [41]", "SPAct", "SPAct's omega"] and action[1] == "action top-1"
    assert cmap[:6] == ["1", "privacy cMAP", "30.0", "81.0", "51.0", "61.0"] and cmap[-1] == "10.8"
    assert cmap[7].startswith("24.7 [")  # within a replicate: of 80 and of 82 points 20 and 20
    first, *_, last = notes.splitlines()
    assert first == "- hmdb51_vispr1 of Table 1: " + "; ".join(map(tables.replicate, committed)) + "."
    assert last.startswith("- Not committed yet: phvu of Table 1, ") and "novel of Table 2" in last
    assert ("table2", "novel", False) in asked and ("table2", "phvu_scene_to_object", True) in asked
    monkeypatch.setattr(readme, "at_hand", lambda *_, **__: [])
    assert readme.columns().startswith("- Not committed yet: ")


def test_blocks_are_filled_between_their_markers(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    monkeypatch.setattr(readme, "PAGES", {path: {"map": lambda: "| new |"}})
    first, last = readme.markers("map")
    path.write_text(f"# A\n{first}\nold\n{last}\nB\n")
    readme.update(path)
    assert path.read_text() == f"# A\n{first}\n| new |\n{last}\nB\n"
    path.write_text("# A\n")
    with pytest.raises(UserError, match="README.md must hold one line '<!-- map"):
        readme.update(path)


def test_readme_results_and_map(committed, tmp_path, monkeypatch):
    known = {*SCORES} - {"obf_weak_blur"}
    monkeypatch.setattr(readme, "at_hand", lambda *_, methods, **__: committed * ({*methods} <= known))
    text = readme.results()
    assert (
        re.search(r"\| privacy cMAP +\| SPAct +\| 61\.0 +\| \[48\.3, 73\.7\] +\| 30\.0 +\|", text)
        and "- Mean of 2 replicates" in text
    )
    assert "Obf-Blackening (oracle boxes)" in text and "Obf-WeakBlur" not in text  # further rows that are committed
    monkeypatch.setattr(readme, "at_hand", lambda *_, **__: [])
    assert readme.results().startswith("No run is committed yet")
    monkeypatch.setattr(readme, "RECORDS", tmp_path)
    assert re.search(r"`spact run 04` +\| not measured yet", readme.notebook_map())
    (tmp_path / "minutes.json").write_text('{"hardware": "a machine", "minutes": {"04_table1.ipynb": 7.25}}')
    assert re.search(r"`spact run 04` +\| 7\.2 +\| a machine +\|", readme.notebook_map())
    (tmp_path / "plan.json").write_text('{"runs": 1612, "finished": 400, "minutes": 2376}')
    planned = r"`spact reproduce --full` +\| about 2,376 +\| one process; an estimate: 400 of its 1,612 runs were timed"
    assert re.search(planned, readme.notebook_map())
    (tmp_path / "minutes.json").write_text('{"hardware": "a machine", "minutes": {"full": 1400}}')
    assert re.search(r"`spact reproduce --full` +\| 1400\.0 +\| a machine +\|", readme.notebook_map())
