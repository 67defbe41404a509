"""Obfuscation: what is inside the boxes changes as it should, what is outside stays."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from spact_lib import obfuscation, tables
from spact_lib.config import DataSpec, FramesSpec, ObfuscationSpec, ReleaseSpec, Schedule, profile
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest
from spact_lib.obfuscation import OBFUSCATIONS, mask
from spact_lib.protocols import fingerprint, protocol
from spact_lib.store import Store
from spact_lib.study import Study, released
from spact_lib.video import read_frames


def boxed(height: int = 20, width: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    boxes = [np.array([[0.1, 0.25, 0.5, 0.75]]), np.zeros((0, 4))]
    return frames, mask(boxes, height, width)


def test_a_mask_covers_every_pixel_that_a_box_touches() -> None:
    _, persons = boxed()
    assert persons.shape == (2, 1, 20, 30) and persons[1].sum() == 0
    rows, columns = persons[0, 0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 14, 3, 14)
    outside = mask([np.array([[-0.2, -0.2, 1.4, 0.01]])], 20, 30)
    assert outside[0, 0, 0].all() and not outside[0, 0, 1:].any()


@pytest.mark.parametrize("name", OBFUSCATIONS)
def test_only_persons_change(name: str) -> None:
    frames, persons = boxed()
    out = obfuscation.obfuscation(name)(frames, persons)
    outside = persons.expand_as(frames) == 0
    assert torch.equal(out[outside], frames[outside])
    assert out.min() >= 0 and out.max() <= 1 and not torch.equal(out[0], frames[0])


def test_strength() -> None:
    frames, persons = boxed()
    spread = {name: OBFUSCATIONS[name](frames, persons)[0][:, 6:14, 4:14].std() for name in OBFUSCATIONS}
    raw = frames[0][:, 6:14, 4:14].std()
    assert spread["obf_blackening"] == 0 < spread["obf_strong_blur"] < spread["obf_weak_blur"] < raw
    # A Gaussian blur of a constant is that constant, whatever the size of the frame.
    for side in (8, 31):
        flat = torch.full((1, 3, side, side), 0.4)
        assert torch.allclose(OBFUSCATIONS["obf_strong_blur"](flat, torch.ones(1, 1, side, side)), flat)


@pytest.mark.parametrize("strength", [obfuscation.STRONG, obfuscation.WEAK])
def test_a_blur_in_rows_and_columns_is_the_dense_one(strength: float) -> None:
    for height, width in ((32, 32), (20, 45), (7, 5), (1, 3)):
        frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
        sigma = strength * min(height, width)
        taps = 2 * min(int(3 * sigma + 0.5), min(height, width) - 1) + 1
        dense = TF.gaussian_blur(frames, [taps, taps], [sigma, sigma])
        out = obfuscation.blur(frames, torch.ones(2, 1, height, width), strength)
        assert torch.allclose(out, dense, rtol=0, atol=1e-5)


def test_a_blur_works_in_proportion_to_the_side_and_on_frames_with_persons_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gaussian_blur, work = TF.gaussian_blur, []

    def counting(frames: torch.Tensor, kernel: list[int], sigma: list[float]) -> torch.Tensor:
        work.append(frames.numel() * kernel[0] * kernel[1])
        return gaussian_blur(frames, kernel, sigma)

    monkeypatch.setattr(TF, "gaussian_blur", counting)
    frames, persons = torch.rand(5, 3, 60, 80), torch.zeros(5, 1, 60, 80)
    assert torch.equal(obfuscation.blur(frames, persons, obfuscation.STRONG), frames) and not work
    persons[3, :, 10:30, 20:40] = 1
    out = obfuscation.blur(frames, persons, obfuscation.STRONG)
    assert sum(work) == 3 * 60 * 80 * 2 * 33
    alone = obfuscation.blur(frames[3:4], persons[3:4], obfuscation.STRONG)
    assert torch.equal(out[3:4], alone) and not torch.equal(alone, frames[3:4])
    assert torch.equal(out[[0, 1, 2, 4]], frames[[0, 1, 2, 4]])


def test_a_release_follows_the_stored_boxes_frame_by_frame(tiny_csv: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_csv)
    paths = manifest.rows["path"].tolist()
    boxes = np.zeros((len(paths), 9, 4), np.int16)
    boxes[:, :, 2:] = 6
    boxes[:, :, [0, 2]] += np.arange(9)[:, None].astype(np.int16)  # moves one pixel to the right in each frame
    data = DataSpec(name="tiny", folder=tiny_csv, fingerprint=fingerprint(tiny_csv, own=True))
    frames = FramesSpec(data=data, stored_side=20)
    spec = ReleaseSpec(method=ObfuscationSpec(name="obf_blackening", boxes="oracle"), frames=frames)
    with pytest.raises(UserError, match="only the built-in data store boxes; elsewhere say boxes='coco'"):
        Store(tmp_path / "none", read_only=False).release(spec)
    folder = tmp_path / "prepared"
    folder.mkdir()
    np.savez(folder / "boxes.npz", path=paths, boxes=boxes)
    find = obfuscation.detector("oracle", folder, manifest)
    raw = read_frames(manifest.root / paths[0], [2, 5])
    persons = mask(find(0, np.array([2, 5]), raw), *raw.shape[1:3])
    out = obfuscation.blacken(torch.from_numpy(raw).permute(0, 3, 1, 2).float(), persons)
    for frame, x in zip(out, (2, 5), strict=True):
        assert frame[:, :6, x : x + 6].sum() == 0 and frame[:, :6, x + 7].sum() > 0


class Network(torch.nn.Module):
    """Stands for the COCO detector: sees one person, one other thing, and doubts a second person."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        box = torch.tensor([[3.0, 5.0, 15.0, 15.0], [0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 1.0, 1.0]])
        seen = {"boxes": box, "labels": torch.tensor([1, 2, 1]), "scores": torch.tensor([0.9, 0.9, 0.2])}
        return [seen for _ in images]


def test_ones_own_videos_are_obfuscated_where_the_detector_sees_persons(
    tiny_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    quick = Schedule(steps=1, batch=2, lr=1e-3)
    settings = profile("mini", target_action=quick, target_privacy=quick, evaluations=1)
    assert settings.boxes == "oracle"
    study = Study(settings, protocol(f"{tiny_csv}:action/attributes"), Store(tmp_path / "store", read_only=False))

    def refuse(weights: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", refuse)
    with pytest.raises(UserError, match="cannot be downloaded .no route to host.; put https://.* at .*/torch/.*.pth"):
        tables.table("table1", study, methods=["raw", "obf_blackening"])
    assert not study.store.root.exists()  # refused before anything is made

    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", lambda weights: Network())
    found = tables.table("table1", study, methods=["raw", "obf_blackening"])
    assert list(found["boxes"]) == ["", "coco"] * 3
    method = study.method("obf_blackening")
    assert study.target(method, "privacy").metrics["boxes"] == "coco"  # the committed record leaves the spec out
    shown = released(study, {"raw": study.method("raw"), "black": method}, study.protocol.action, [0])
    assert (shown["black"][0, 5:15, 3:15] == 0).all() and np.array_equal(shown["black"][0, 15:], shown["raw"][0, 15:])


def with_persons(tiny_csv: Path, *cells: str) -> Path:
    """The table with persons marked in its first rows, and nobody in the others."""
    header, *lines = tiny_csv.read_text().splitlines()
    marks = [*cells, *[""] * (len(lines) - len(cells))]
    table = tiny_csv.with_name("with_persons.csv")
    table.write_text("\n".join([f"{header},persons", *(f"{a},{b}" for a, b in zip(lines, marks, strict=True))]) + "\n")
    return table


def test_ones_own_videos_are_obfuscated_where_their_table_marks_persons(tiny_csv: Path, tmp_path: Path) -> None:
    table = with_persons(tiny_csv, "0.1 0.25 0.5 0.75 | 0.8 0 1 1")
    quick = Schedule(steps=1, batch=2, lr=1e-3)
    settings = profile("mini", target_action=quick, target_privacy=quick, evaluations=1)
    study = Study(settings, protocol(f"{table}:action/attributes"), Store(tmp_path / "store", read_only=False))
    method = study.method("obf_blackening")
    assert method.boxes == "marked"
    shown = released(study, {"raw": study.method("raw"), "black": method}, study.protocol.action, [0, 1])
    raw, black = shown["raw"][0], shown["black"][0]
    height, width = raw.shape[:2]
    inside = mask([np.array([[0.1, 0.25, 0.5, 0.75], [0.8, 0, 1, 1]])], height, width)[0, 0].bool().numpy()
    assert (black[inside] == 0).all() and np.array_equal(black[~inside], raw[~inside])
    assert np.array_equal(shown["black"][1], shown["raw"][1])  # nobody is marked there
    found = tables.table("table1", study, methods=["raw", "obf_blackening"])
    assert list(found["boxes"]) == ["", "marked"] * 3
    assert tables.label("obf_blackening", "marked") == "Obf-Blackening (marked boxes)"
    # Where neither table nor videos are, the committed catalogue still tells whose boxes they were.
    assert study.data(study.protocol.action).fingerprint.endswith("+persons")


@pytest.mark.parametrize(
    "cell",
    ["3", "0.1 0.2|0.3 0.4", "0 0 1 1 0 0 1 1", "0 0 1", "0 0 1 x", "0.5 0 0.4 1", "0 0 1 1.2", "nan 0 1 1"],
)
def test_what_is_no_box_is_refused_before_anything_is_made(tiny_csv: Path, tmp_path: Path, cell: str) -> None:
    store = Store(tmp_path / "store", read_only=False)
    study = Study(profile("mini"), protocol(f"{with_persons(tiny_csv, cell)}:action/attributes"), store)
    said = f"^persons of .* in dataset 'with_persons' is '{re.escape(cell)}'; write boxes as x0 y0"
    with pytest.raises(UserError, match=said):
        tables.table("table1", study, methods=["raw", "obf_blackening"])
    assert not store.root.exists()


def test_persons_of_a_detector_become_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", lambda weights: Network())
    find = obfuscation.detector("coco", Path("nowhere"), None)
    found = find(0, np.arange(17), np.zeros((17, 20, 30, 3), np.uint8))
    assert len(found) == 17 and all(np.allclose(boxes, [[0.1, 0.25, 0.5, 0.75]]) for boxes in found)

    def refuse(weights: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(obfuscation, "fasterrcnn_mobilenet_v3_large_320_fpn", refuse)
    with pytest.raises(UserError, match="weights cannot be downloaded .no route to host.; put https://.* at .*.pth"):
        obfuscation.detector("coco", Path("nowhere"), None)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="unknown obfuscation 'mosaic'"):
        obfuscation.obfuscation("mosaic")
