"""Own videos as they come: all real clips at hand, and one of two hours."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_apps_transcode import seconds

from spact_lib.apps.anonymize import SUFFIXES, Settings, anonymize, load_method
from spact_lib.apps.transcode import survey
from spact_lib.errors import UserError
from spact_lib.video import write_video

RELEASE = """
import resource, sys
from pathlib import Path
from spact_lib import cli
try:
    cli.main(["anonymize", "--anonymizer", "downsample_2x", *sys.argv[1:]])
finally:
    print("MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture(autouse=True)
def own_runs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path_factory.mktemp("runs")))


def anonymized(source: Path, target: Path) -> tuple[str, int]:
    """What the command says, and the memory it took in MB."""
    command = [sys.executable, "-c", RELEASE, str(source), str(target)]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode in (0, 2), said.stderr
    return said.stdout + said.stderr, int(said.stdout.split()[-1])


def test_two_hours_take_the_memory_of_a_minute(tmp_path: Path) -> None:
    def film(frames: int) -> Path:
        return write_video(
            tmp_path / f"{frames}.mp4", (np.full((48, 64, 3), k % 250, np.uint8) for k in range(frames)), 5
        )

    memory = {}
    for frames in (5 * 60, 5 * 7200):
        said, memory[frames] = anonymized(film(frames), tmp_path / f"out{frames}.mp4")
        assert f"{frames} frames" in said
    assert memory[5 * 7200] - memory[5 * 60] <= 10
    times = seconds(tmp_path / f"out{5 * 7200}.mp4")
    assert len(times) == 5 * 7200 + 1 and times == pytest.approx([k / 5 for k in range(5 * 7200 + 1)], abs=1e-3)
    assert times[-1] == 7200


def test_every_real_clip_is_released_whole_or_refused_in_one_sentence(shared_data: Path, tmp_path: Path) -> None:
    clips = [path for path in sorted((shared_data / "clips").rglob("*")) if path.suffix.lower() in SUFFIXES]
    assert len(clips) >= 33
    pairs = [(path, tmp_path / f"{number}.mp4") for number, path in enumerate(clips)]  # two are called test
    done, failed = anonymize(pairs, load_method("downsample_2x"), Settings(), jobs=2)
    assert len(done) + len(failed) == len(clips) and not any("\n" in sentence for sentence in failed.values())
    assert {path.name for path in tmp_path.iterdir()} == {out.name for out in done}
    for source, out in pairs:
        if source in failed:
            with pytest.raises(UserError):
                survey(source)
            continue
        info, made = survey(source), survey(out)
        frame = 1 / float(info.rate)
        assert (made.frames, made.pixel) == (info.frames, info.pixel)
        assert (made.width, made.height) == (info.width + info.width % 2, info.height + info.height % 2)
        if info.timed:
            before = seconds(source)
            assert seconds(out) == pytest.approx([at - before[0] for at in before], abs=frame)
        assert seconds(out)[-1] == pytest.approx(info.frames * frame, abs=frame)
