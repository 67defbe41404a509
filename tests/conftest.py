"""What several tests need: the real data beside the checkout, and the mark of the slow tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from made_up import made_up_records
from tiny import HERE, one_cpu_thread, study, targets

from spact_lib import results
from spact_lib.config import DataSpec, profile
from spact_lib.protocols import protocol
from spact_lib.store import Store
from spact_lib.study import Study
from spact_lib.video import write_video

REPOSITORY = Path(__file__).resolve().parents[1]
SLOW = Path(__file__).resolve().parent / "slow"

# The same examples in every run. To look for further ones: pytest --hypothesis-profile default
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in tests/slow carries the mark ``slow``, so that none can forget it."""
    for item in items:
        if item.path.is_relative_to(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and annotations; the test is skipped where there is none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not part of this repository")
    return folder


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's dataset: short clips of two motions (a square goes right or down) with two attributes of the picture."""
    folder, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    lines = ["path,split,action:single,attributes:multi,person"]
    for k, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 3 + ["unused"]):
        action, red, bar = k % 2, k // 2 % 2, k // 4 % 2
        frames = np.repeat(rng.integers(0, 90, (1, 20, 24, 3), dtype=np.uint8), 7 + k % 3, axis=0)
        frames[..., 0] += 120 * red
        frames[:, :3] = 255 if bar else frames[:, :3]
        for t, frame in enumerate(frames):
            y, x = (t, 10) if action else (10, t)
            frame[y : y + 6, x : x + 6] = 255
        write_video(folder / "clips" / f"{k:02d}.avi", frames, 10, "mpeg4")
        attributes = "|".join(name for name, on in (("red", red), ("bar", bar)) if on)
        lines.append(f"clips/{k:02d}.avi,{split},{('right', 'down')[action]},{attributes},{'ab'[k % 2]}")
    (folder / "tiny.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "tiny.csv"


@pytest.fixture(scope="module")
def one_cpu() -> Iterator[None]:
    """``one_cpu_thread`` for a module."""
    with one_cpu_thread():
        yield


@pytest.fixture(scope="module")  # each module its own, for tests add to the store
def finished(tiny_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, dict]]:
    """The whole path, for all methods, undisturbed: what everything else is compared with."""
    with one_cpu_thread():
        one = study(tiny_csv, tmp_path_factory.mktemp("finished"))
        return one, {name: targets(one, name) for name in HERE}


@pytest.fixture
def committed(tmp_path: Path, monkeypatch):
    """Two studies whose records are committed and nothing else is there: no data, no store."""
    folder = tmp_path / "records"
    monkeypatch.setattr(results, "RECORDS", folder)
    records, studies = {}, []
    for draw in (1, 2):
        names = {name: f"{name}-{draw}" for name in ("ucf101", "vispr")}
        data = {name: DataSpec(name=full, folder=tmp_path, fingerprint=full) for name, full in names.items()}
        store = Store(tmp_path / "store", read_only=True)
        one = Study(
            profile("mini", target_seeds=(0, 1), omegas=(0.5, 0.25)), protocol("ucf101_vispr1"), store, draw, _data=data
        )
        records |= made_up_records(one, shift=2.0 * (draw - 1))
        studies.append(one)
    results.keep_records(records, folder, "table1")
    return studies
