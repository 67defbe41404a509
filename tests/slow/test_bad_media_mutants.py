"""Real clips with bytes changed at random, in a process with limited memory: a crash or a hunger would be seen."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))
from test_bad_media import used  # noqa: E402

MUTANTS = 200
CLIPS = ["gestures/PS7A2P2T1.avi", "misc/demo.mp4", "misc/demo_spatiotemporal_det.mp4", "misc/test.avi"]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes, or many, or a piece taken out, doubled or zeroed; often where the header or the index is."""
    data = np.frombuffer(content, np.uint8).copy()
    ends = rng.random() < 0.6  # the first and the last 4 kB say where everything is
    places = np.concatenate([np.arange(4096), np.arange(len(data) - 4096, len(data))]) if ends else np.arange(len(data))
    kind = rng.integers(5)
    if kind < 3:
        hit = rng.choice(places, int(2 ** rng.uniform(0, 8)), replace=False)
        data[hit] = rng.integers(0, 256, len(hit)) if kind else data[hit] ^ (1 << rng.integers(0, 8, len(hit)))
        return data.tobytes()
    start, length = int(rng.choice(places)), int(2 ** rng.uniform(0, 14))
    piece = data[start : start + length].tobytes()
    middle = [b"", piece * 2, bytes(len(piece))][rng.integers(3)]
    return content[:start] + middle + content[start + length :]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits and reads its memory as Linux does")
def test_no_mutant_crashes_or_takes_memory_without_bounds(shared_data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "media").mkdir()
    sources, paths = [shared_data / "clips" / name for name in CLIPS], []
    for number in range(MUTANTS):
        source = sources[number % len(sources)]
        paths.append(tmp_path / "media" / f"{number}{source.suffix}")
        paths[-1].write_bytes(mutated(source.read_bytes(), rng))
    found = used(paths, tmp_path / "out", 2000)
    assert len(found) == MUTANTS
    readable = [name for name, said in found.items() if isinstance(said["read"], int)]
    refused = [name for name, said in found.items() if isinstance(said["probe"], str)]
    print(f"{len(readable)} of {MUTANTS} mutants can be read, {len(refused)} are refused at once")
    assert len(readable) > 10 and len(refused) > 10  # they are neither all harmless nor all nonsense
    assert not any("\n" in str(result) for said in found.values() for result in said.values())
