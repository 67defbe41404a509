"""The README's "Extend it": its code, run as it stands, adds what it says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import study

from spact_lib import action_losses, baselines, branches, methods, protocols
from spact_lib import study as studies
from spact_lib.branches import build_branch
from spact_lib.networks import privacy
from spact_lib.readme import README

REGISTRIES = [
    (baselines, "BASELINES"), (branches, "BRANCHES"), (action_losses, "ACTION_LOSSES"), (privacy, "ENCODERS"),
    (protocols, "PROTOCOLS"), (methods, "METHODS"),
]  # fmt: skip


def test_the_code_of_extend_it_adds_rows(tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: dict(getattr(module, name)) for module, name in REGISTRIES}
    here = study(tiny_csv, tmp_path)
    here = replace(here, profile=here.profile.model_copy(update={"target_seeds": (0,)}))
    asked = []
    monkeypatch.setattr(studies, "open_study", lambda profile, *, protocol: asked.append((profile, protocol)) or here)
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- extend it: .*? -->\n```python\n(.*?)```", text, re.S)
    # At its own lines of the README: the store looks the source of what it meets up there (``own_code``).
    code = "\n" * text[: found.start(1)].count("\n") + found[1]
    try:
        said: dict = {}
        exec(compile(code, str(README), "exec"), said)
        assert asked == [("smoke", "hmdb51_vispr2")]
        added = {name: set(getattr(module, name)) - set(before[name]) for module, name in REGISTRIES}
        assert all(len(names) >= 1 for names in added.values())
        # Every new row is in the table and was measured.
        table = said["mine"]
        assert added["METHODS"] <= set(table.index.unique("method")) and table["here"].notna().all()
        # Each does what its comment says.
        gray = here.store.release(here.release(here.method("gray"), here.protocol.action)).read(0, np.array([0]))
        assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 0] == gray[..., 2]).all()
        branch = build_branch(here.method("spact_gray").f_B.branch, 0)
        assert branch.views(torch.rand(2, 2, 3, 4, 4)).std(2).max() < 1e-6
        first = [
            json.loads((here.store.files(here.method(name)) / "metrics.jsonl").read_text().splitlines()[0])
            for name in ("spact", "spact_small_logits")
        ]
        assert first[0]["L_T_step1"] < first[1]["L_T_step1"] and first[0]["L_B_step1"] == first[1]["L_B_step1"]
        (encoder, size) = privacy.ENCODERS["patches"]()
        assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, size) == (2, 32)
    finally:
        for module, name in REGISTRIES:
            registry = getattr(module, name)
            registry.clear()
            registry.update(before[name])
