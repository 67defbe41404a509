"""C1 and C2: every cell is the model it says, on the data it says; losses from the formula."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_model
from tiny import TINY, study

from spact_lib import conditions, data, target
from spact_lib.conditions import c1_c2
from spact_lib.experiments import predictions
from spact_lib.metrics import prediction_loss
from spact_lib.store import manifest_of
from spact_lib.study import Study
from spact_lib.tables import label


def test_losses_of_predictions() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    assert prediction_loss(p, torch.tensor([1, 1])) == pytest.approx((math.log(4) - math.log(0.8)) / 2)
    p = torch.tensor([[0.5, 0.9], [0.25, 0.2]])
    bits = [0.5, 0.9, 0.75, 0.8]  # of what is true
    assert prediction_loss(p, torch.tensor([[1, 1], [0, 0]])) == pytest.approx(-np.mean(np.log(bits)))
    assert prediction_loss(torch.full((3, 4), 0.25), torch.tensor([0, 1, 3])) == pytest.approx(math.log(4))
    for wrong in (torch.tensor([1]), torch.tensor([[0, 1]])):
        assert 10 < prediction_loss(torch.tensor([[1.0, 0.0]]), wrong) < math.inf


@pytest.fixture(scope="module")
def found(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, pd.DataFrame]:
    one = study(tiny_csv, tmp_path_factory.mktemp("store"), TINY.model_copy(update={"target_seeds": (0,)}))
    return one, c1_c2(one, "spact")


def test_retrained_and_unprepared_are_tested_on_raw_and_anonymized_data(found: tuple[Study, pd.DataFrame]) -> None:
    one, table = found
    raw, spact = label("raw"), label("spact")
    assert set(table.index.droplevel(0)) == {(a, b) for a in (raw, spact) for b in (raw, spact)}
    assert table.notna().all(axis=None)
    for name in ("raw", "spact"):  # on the data that it learned, a target scores as its own record says
        spec = one.target_spec(one.method(name), "privacy")
        own = one.store.run(spec)
        row = table.loc[("privacy cMAP", label(name), label(name))]
        assert row["here"] == pytest.approx(own.metrics["cmap"]) and row["chance"] == own.metrics["cmap_chance"]
        kept = map(torch.from_numpy, predictions(one.store, spec))
        assert row["loss"] == pytest.approx(prediction_loss(*kept), rel=1e-4)


def test_what_is_said_is_read_from_the_table(found: tuple[Study, pd.DataFrame], tmp_path, monkeypatch) -> None:
    one, table = found
    raw, spact = label("raw"), label("spact")
    first, second = conditions.sentences(table, "spact").split("\n")
    action, privacy = table.loc["action top-1"], table.loc["privacy cMAP"]
    assert first.startswith("C1, action top-1: ") and f"on {spact}'s release (L_T " in first
    assert f"there (L_B {privacy['loss'][raw, raw]:.3f}) and {privacy['here'][raw, spact]:.1f} on" in second
    less = privacy["here"][raw, spact] - privacy["here"][raw, raw]
    assert f"(L_B {privacy['loss'][raw, spact]:.3f}), {less:+.1f} points; retrained on the release" in second
    here, metrics = action["here"], table.index.get_level_values("metric")
    assert list(metrics) == [m for m in ("action top-1", "privacy cMAP", "privacy F1") for _ in range(4)]
    assert action["drop"][raw, spact] == pytest.approx(100 * (here[raw, raw] - here[raw, spact]) / here[raw, raw])
    assert (table["drop"].xs((raw, raw), level=[1, 2]) == 0).all() and table["minutes"].notna().all()
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    conditions.save(table, "smoke", "c1_c2")
    text = (tmp_path / "tables" / "smoke" / "c1_c2.csv").read_text()
    assert text.startswith("metric,learned on,tested on,here,chance,drop %,loss,minutes,hardware\n")
    assert "Hardware: " in (tmp_path / "tables" / "smoke" / "c1_c2.tex").read_text()


def test_a_collapsed_f_A_is_said_below_both_conditions(
    found: tuple[Study, pd.DataFrame], tmp_path, monkeypatch
) -> None:
    one, before = found
    record = one.store.files(one.method("spact")) / "record.json"
    text = record.read_text()
    record.write_text(text.replace('"collapsed": false', '"collapsed": true'))
    table = c1_c2(one, "spact")
    record.write_text(text)
    assert "Not a result" not in conditions.sentences(before, "spact")
    assert conditions.sentences(table, "spact").endswith(f"which hides the action too: {label('spact')}.")
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path))
    conditions.save(table, "smoke", "c1_c2")
    for suffix in ("csv", "tex"):
        assert "Not a result: f_A has" in (tmp_path / "tables" / "smoke" / f"c1_c2.{suffix}").read_text().replace(
            "\\_", "_"
        )


def test_an_unprepared_model_sees_the_release(found: tuple[Study, pd.DataFrame]) -> None:
    one, table = found
    spec = one.target_spec(one.method("raw"), "action")
    network, dims = target.build_target(spec.network, 2)
    load_model(network, one.store.files(spec) / "network.safetensors")
    manifest = manifest_of(spec.data)
    release = one.store.release(one.release(one.method("spact"), one.protocol.action))
    rows, labels = data.rows_of(manifest, "test"), manifest.labels("action")
    p = target.predict(network, dims, data.ClipDataset(release, rows, labels, spec.view), torch.device("cpu"))
    expected = -np.mean([math.log(p[k, labels[row]]) for k, row in enumerate(rows)])
    row = table.loc[("action top-1", label("raw"), label("spact"))]
    assert row["loss"] == pytest.approx(expected, rel=1e-4)
    assert row["loss"] != pytest.approx(table.loc[("action top-1", label("raw"), label("raw")), "loss"], rel=1e-4)
