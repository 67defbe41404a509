"""The paper against the official code: a row changes one choice of SPAct's, and does what it says."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TINY, study

from spact_lib import initialize
from spact_lib.config import profile
from spact_lib.methods import CHOICES, METHODS, LearnedMethod
from spact_lib.networks.action import build_action_network
from spact_lib.protocols import protocol
from spact_lib.tables import LABELS


def leaves(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for name, each in value.items() for k, v in leaves(each, f"{path}.{name}").items()}
    return {path: value}


@pytest.mark.parametrize(
    ("row", "changed"),
    {
        "spact_stills": {".f_B.branch.loss": "nt_xent_stills"},
        "one_direction": {".f_B.branch.both_directions": False},
        "weights_1_1": {".omega": 1.0},
        "other_stage_f_T": {".f_T.network": TINY.other_stage_f_T},
        "on_raw": {".f_T.on_raw": True, ".f_B.on_raw": True},
    }.items(),
)
def test_a_row_changes_one_choice(tiny_csv: Path, tmp_path: Path, row: str, changed: dict[str, object]) -> None:
    one = study(tiny_csv, tmp_path)
    assert set(CHOICES) <= set(METHODS) & set(LABELS)
    omega = METHODS[row].omega
    spact, other = (leaves(one.anonymizer(name, 0.5).model_dump()) for name in ("spact", row))
    other |= {".omega": omega} if isinstance(omega, float) else {}
    assert {path: value for path, value in other.items() if spact.get(path) != value} == changed
    assert isinstance(METHODS[row], LearnedMethod) and omega in ("spact", 1.0)


def test_a_start_on_raw_data_never_meets_f_A(tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = study(tiny_csv, tmp_path)
    one.store.run(one.init_f_A)

    def refuse(*args: object) -> None:
        raise AssertionError("through f_A")

    monkeypatch.setattr(initialize, "through_f_A", refuse)
    for spec in (one.init_f_T(on_raw=True), one.init_f_B(METHODS["on_raw"])):
        assert one.store.run(spec).metrics
    for spec in (one.init_f_T(), one.init_f_B(METHODS["spact"])):
        with pytest.raises(AssertionError, match="through f_A"):
            one.store.run(spec)


def test_the_dilated_last_block_keeps_the_temporal_length() -> None:
    torch.manual_seed(0)
    plain, dilated = (build_action_network(name, 3).eval() for name in ("r3d_slim_motion", "r3d_slim_motion_dilated"))
    lengths = {}
    for name, network in (("plain", plain), ("dilated", dilated)):
        network.body.blocks.register_forward_hook(lambda _, before, after, n=name: lengths.update({n: after.shape[2:]}))
        assert network(torch.rand(2, 8, 3, 32, 32)).shape == (2, 3)
    (t, *sides), (t_dilated, *sides_dilated) = lengths["plain"], lengths["dilated"]
    assert t_dilated == 2 * t and sides == sides_dilated
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in dilated.parameters())


def test_a_choice_keeps_the_other_settings_of_the_profile() -> None:
    own = SimpleNamespace(profile=profile("mini", temperature=0.5, both_directions=False), protocol=protocol("novel"))
    found = {name: METHODS[name].branch(own) for name in ("spact", "spact_stills", "one_direction", "moco", "rotnet")}
    assert [found[name].temperature for name in ("spact", "spact_stills", "one_direction", "moco")] == [0.5] * 4
    assert [found[name].both_directions for name in ("spact", "spact_stills", "moco")] == [False, False, True]
