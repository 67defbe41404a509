"""A reproduction makes nothing twice, whatever asks for it: counted over tables, studies and stores."""

from collections import Counter
from pathlib import Path

import pytest
from tiny import TINY, study, targets

from spact_lib import data, experiments, packed, tables
from spact_lib.methods import TABLES
from spact_lib.store import manifest_of
from spact_lib.study import Study

ONE_SEED = TINY.model_copy(update={"target_seeds": (0,)})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each spec is made: (kind, key) -> times."""
    counts: Counter = Counter()

    def counting(build):
        return lambda spec, *given: counts.update([(spec.kind, spec.key())]) or build(spec, *given)

    builders = {kind: counting(build) for kind, build in experiments.BUILDERS.items()}
    monkeypatch.setattr(experiments, "BUILDERS", builders)
    return counts


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often the pixels of each file are asked for."""
    counts: Counter = Counter()
    for module, name in ((packed, "iter_frames"), (data, "read_frames")):
        read = getattr(module, name)
        counting = lambda path, *a, read=read, **k: counts.update([path.name]) or read(path, *a, **k)  # noqa: E731
        monkeypatch.setattr(module, name, counting)
    return counts


def test_tables_share_all_that_they_have_in_common(
    tiny_csv: Path, tmp_path: Path, made: Counter, decoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, strongest = [], Study._strongest
    monkeypatch.setattr(Study, "_strongest", lambda *given: chosen.append(1) or strongest(*given))

    def notebook() -> Study:  # each opens the store anew
        return study(tiny_csv, tmp_path, ONE_SEED)

    one = notebook()
    rows = manifest_of(one.data(one.protocol.action)).rows
    for table in ("table1", "table6"):
        here = notebook()
        for row in TABLES[table]:
            targets(here, row)
    assert tables.table("table1", notebook())["here"].notna().all()
    assert set(made.values()) == {1}
    assert len(chosen) == 5  # once in each: supervised and SPAct of Table 1, SPAct of Table 6, and Table 1 again
    kinds = Counter(kind for kind, _ in made)
    # Supervised, SPAct, and the two other f_B of Table 6: one f_A and one f_T to start from, an f_B each, one omega.
    assert (kinds["frames"], kinds["init_f_A"], kinds["init_f_T"]) == (1, 1, 1)
    assert (kinds["init_f_B"], kinds["anonymizer"]) == (4, 4)
    # Identity, two baselines and four f_A*: raw frames are not written again. Two targets of each, and of raw.
    assert (kinds["release"], kinds["target"]) == (7, 16)
    used = rows["path"][rows["split"] != "unused"]
    assert decoded == Counter(path.split("/")[-1] for path in used)
