"""The report on a clip: its classifiers, its measures, its page."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_apps_pretrained import folder as exported_folder
from test_apps_pretrained import study as study  # a fixture

from spact_lib import cli
from spact_lib.apps import report
from spact_lib.apps.transcode import Result
from spact_lib.config import BaselineSpec
from spact_lib.data import rows_of
from spact_lib.errors import UserError
from spact_lib.experiments import predictions
from spact_lib.protocols import PROTOCOLS
from spact_lib.store import Store, manifest_of
from spact_lib.study import Study
from spact_lib.video import probe, write_video

RAW = BaselineSpec(name="raw")
AWKWARD = "<img src=x onerror=alert(1)> & 'its'.mp4"


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACT_RUNS", str(tmp_path / "runs"))


def case(study: Study, source: Path, released: Path, **changes: object) -> report.Case:
    info = probe(source)
    size = (info.width, info.height)
    result = Result(info.frames, info.duration_s, size, size, size, 1.0, 0.5, 0.0, 0.0, "none", ())
    return replace(report.Case(study, source, released, "spact", "", None, result, None), **changes)


def test_a_report_of_a_test_video_asks_the_studys_own_classifiers(study: Study) -> None:
    here = report.open_case(study)
    assert here.row is not None and here.spec == study.method("spact") and "# SPAct anonymizer" in here.card
    manifest = manifest_of(study.data(study.protocol.action))
    tested = manifest.select("test")
    row = tested.rows["path"].tolist().index(str(here.source.relative_to(manifest.root)))
    answers = report.answers(here)
    assert list(answers) == ["action", "privacy"]
    # The clip is a test row, of which the store keeps the predictions.
    expected = predictions(study.store, study.target_spec(RAW, "action"))[0][row]
    asked = answers["action"]
    classes = manifest.task("action").classes
    assert asked["raw clip"].reindex(classes).tolist() == pytest.approx(100 * expected, abs=0.6)
    assert list(asked) == [
        "raw clip", "released, classifier of raw data", "released, classifier of released data", "share",
    ]  # fmt: skip
    assert asked["share"].reindex(classes).tolist() == [50, 50]
    share = 100 * manifest.select("train").labels("attributes").mean(0)
    found = answers["privacy"]["share"].reindex(manifest.task("attributes").classes)
    assert found.tolist() == pytest.approx(share, abs=0.5)
    assert "know only" not in report.caveat(here).data
    assert report.model_card(here).data.startswith("### SPAct anonymizer")
    assert report.demonstration(study) == report.demonstration(study)  # exported once


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_study_of_few_test_videos_shows_one_of_them(study: Study, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    tested = rows_of(manifest_of(study.data(study.protocol.action)), "test")
    monkeypatch.setattr("spact_lib.study.rows_of", lambda manifest, split: tested[:n])
    manifest = manifest_of(study.data(study.protocol.action))
    here = report.open_case(study, anonymizer="downsample_2x")
    assert here.source == manifest.root / manifest.rows["path"].iloc[tested[n // 2]]


def test_a_demonstration_has_the_scores_of_its_own_protocol(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "export", lambda study, method, folder: folder)
    targets = {"action": study.protocol.targets["action"]}
    other = replace(study, protocol=replace(study.protocol, targets=targets))
    assert other.method("spact") == study.method("spact")
    seeds = replace(study, profile=study.profile.model_copy(update={"target_seeds": (5,)}))
    assert len({report.demonstration(each) for each in (study, other, seeds, replace(study))}) == 3


def test_what_the_store_has_no_classifier_for_is_said(study: Study, tmp_path: Path, capsys) -> None:
    source = write_video(tmp_path / AWKWARD, np.random.default_rng(0).integers(0, 256, (5, 21, 31, 3), np.uint8), 25)
    here = report.open_case(study, str(source), "downsample_2x", steady=True)
    assert here.row is None and here.spec is None and here.card == ""
    assert here.result.released == (32, 22)
    answers = report.answers(here)
    assert list(answers["action"]) == ["raw clip", "released, classifier of raw data", "share"]
    assert capsys.readouterr().out.count("classifier of released data: the attacker to fear was not asked") == 1
    assert "&lt;img src=x onerror" in report.summary(here).data and "<img" not in report.summary(here).data
    assert "learns nothing" in report.model_card(here).data
    unknown = replace(here, spec=study.anonymizer("spact", 0.123))
    assert list(report.answers(unknown)["action"]) == list(answers["action"])
    said = capsys.readouterr().out
    assert f"not in the store, and nothing was asked of them ({report.RELEASED}: action and privacy). `spact" in said
    assert f"{report.RELEASED}: the attacker to fear was not asked." in said and said.count("\n") == 2
    report.show_side_by_side(here)
    assert (report.similarity(here)["PSNR (dB)"] > 0).all()  # sizes differ by the pixel that an odd side grows by


def test_classifiers_of_drawn_data_are_not_believed(study: Study, tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 20, 3), np.uint8), 25)
    # They learned a CSV, whose folder is nobody's business.
    assert report.caveat(case(study, source, source)).data.startswith("They learned tiny: ")
    drawn = replace(study, protocol=PROTOCOLS["ucf101_vispr1"], store=Store(tmp_path, read_only=True))
    assert "know only drawn pictures" in report.caveat(case(drawn, source, source)).data
    said = report.caveat(case(drawn, source, source, row=0)).data
    assert "no classifier has seen it" in said and "The classifiers of privacy learned other data" in said
    assert "learned other data" not in report.caveat(case(study, source, source, row=0)).data  # one table has both


def test_similarity_has_its_closed_forms(study: Study, tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    frames[:, :, 24:] = 200
    source = write_video(tmp_path / "a.mp4", frames, 25, quality=0)
    found = report.similarity(case(study, source, source))
    assert found.loc["released", "SSIM"] == 1 and found.loc["released", "PSNR (dB)"] == np.inf
    # Half the pixels are 0, half 200 of 255: each is 100 / 255 from the mean.
    assert found.loc["one colour", "PSNR (dB)"] == pytest.approx(-20 * np.log10(100 / 255), abs=0.1)
    tiny = write_video(tmp_path / "b.mp4", frames[:, :8, 20:28], 25)
    assert list(report.similarity(case(study, tiny, tiny))) == ["PSNR (dB)"]


def test_the_page_has_no_code_no_script_and_fetches_nothing(tmp_path: Path) -> None:
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    table = new_output("display_data", {"text/html": pd.DataFrame({"clip": [AWKWARD]})._repr_html_()})
    printed = new_output("stream", name="stdout", text=f"{AWKWARD}\n")
    notebook = new_notebook(
        cells=[
            new_markdown_cell("only for readers of the notebook", metadata={"tags": [report.NOT_IN_REPORT]}),
            new_code_cell("CLIP = 1", metadata={"tags": ["parameters", report.NOT_IN_REPORT]}, outputs=[printed]),
            new_markdown_cell("## Side by side"),
            new_code_cell("secret_call()", outputs=[picture, table, printed]),
        ]
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    page = report.html_page(tmp_path / "a.ipynb", AWKWARD)
    for absent in ("<script", "secret_call", "CLIP = 1", "only for readers", "<img src=x", "</title><"):
        assert absent not in page.lower().replace("</title><style", ""), absent
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']*)""", page) == []
    assert "url(http" not in page and "@import" not in page
    assert "Side by side" in page and "data:image/png;base64,iVBOR" in page and page.count("&lt;img src=x") == 3
    assert page.index("Content-Security-Policy") < page.index("<title>")


EVIL = [  # of a card: each line, and all of them as a name
    '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    '<form action="https://evil.example"><button>x</button></form> <img src=x> &lt;b>',
    "![a picture of this machine](own.png) ![again][r] [a link](https://evil.example) <https://evil.example>",
    "[r]: own.png",
]


def test_what_a_card_or_a_name_from_outside_holds_is_shown_and_nothing_else(study: Study, tmp_path: Path) -> None:
    (tmp_path / "own.png").write_bytes(b"private")
    role = replace(study.protocol.action, dataset=f"{tmp_path}/" + " _x_ `y` *z* ".join(EVIL).replace("/", "") + ".csv")
    own = replace(study, store=Store(tmp_path, read_only=True), protocol=replace(study.protocol, action=role))
    clip = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 20, 3), np.uint8), 25)
    here = case(own, clip, clip, card="# Card\n\n**bold**\n\nour own&#58; note\n\n" + "\n\n".join(EVIL))
    nameless = replace(here, card="", name=EVIL[0])
    markdown = [report.caveat(here), report.model_card(here), report.model_card(nameless)]
    outputs = [new_output("display_data", {"text/markdown": text.data}) for text in markdown]
    nbformat.write(new_notebook(cells=[new_code_cell("x", outputs=outputs)]), tmp_path / "a.ipynb")
    body = report.html_page(tmp_path / "a.ipynb", "t").partition("<body")[2]
    assert re.findall(r"<(?:meta|form|button|img|a href)[^>]*>", body) == [] and "cHJpdmF0ZQ" not in body
    assert "our own&#58; note" in body or "our own: note" in body
    assert "<strong>bold</strong>" in body and re.search("<h3[^>]*>Card", body)
    assert body.count("&lt;meta http-equiv") == 3 and "_x_ `y` *z*" in body and "&amp;lt;b&gt;" in body
    assert "form-action 'none'; base-uri 'none'" in report.POLICY


def test_what_cannot_be_reported_is_told_before_the_notebook_runs(tmp_path: Path, capsys) -> None:
    def status(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            cli.main(["report", *arguments])
        return stop.value.code

    (tmp_path / "text.mp4").write_text("no video")
    for subject, message in (("text.mp4", "cannot read .*text.mp4"), ("none.mov", "there is no file .*none.mov")):
        assert status(str(tmp_path / subject)) == 2
        told = capsys.readouterr().err
        assert re.search(message, told) and told.count("\n") == 1
    clip = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 20, 3), np.uint8), 25)
    assert status(str(clip), "--anonymizer", "blur") == 2 and "unknown anonymizer 'blur'" in capsys.readouterr().err
    for output, what in ((tmp_path, "a folder"), (clip, "the clip itself")):
        assert status(str(clip), "--output", str(output)) == 2 and f"is {what}; name the" in capsys.readouterr().err
    for name in ("holiday.pdf", "holiday"):
        assert status(str(clip), "--output", str(tmp_path / name)) == 2
        assert f"{name} would hold HTML; give a name that ends in .html" in capsys.readouterr().err
    with pytest.raises(UserError, match="has no parameter 'PROFIEL'"):
        report.report_clip(clip, tmp_path / "a.html", PROFIEL="smoke")
    assert not (tmp_path / "a.html").exists()


def test_of_a_report_only_the_page_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(path: Path, output: Path, parameters: dict, **options: object) -> None:
        nbformat.write(new_notebook(cells=[new_markdown_cell("## Side by side")]), output)
        ran.append((output, parameters))

    monkeypatch.setattr(report, "run_notebook", run)
    monkeypatch.chdir(tmp_path)
    clip, page = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 20, 3), np.uint8), 25), tmp_path / "a.html"
    exported_folder(tmp_path / "f_A")
    relative = {"ANONYMIZER": "f_A", "PROTOCOL": "my.csv:g/p"}  # the notebook works in another folder than the user
    assert report.report_clip(Path("a.mp4"), page, **relative) == page and "Side by side" in page.read_text()
    given = {"CLIP": clip, "ANONYMIZER": tmp_path / "f_A", "PROTOCOL": f"{tmp_path / 'my.csv'}:g/p"}
    assert ran[0][1] == {name: str(value) for name, value in given.items()}

    with pytest.raises(UserError, match=r"a.html is already there; give --overwrite, or another --output"):
        report.report_clip(clip, page)

    def full(notebook: Path, title: str) -> str:
        raise OSError("no space")

    monkeypatch.setattr(report, "html_page", full)
    with pytest.raises(OSError):
        report.report_clip(clip, page, overwrite=True, ANONYMIZER="downsample_2x")
    assert ran[1][1]["ANONYMIZER"] == "downsample_2x"
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_of_a_report_that_fails_no_frame_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [new_code_cell("CLIP = ''"), new_code_cell("print('frames'); raise ValueError('no frame')")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=cells), notebook := tmp_path / "13_tiny.ipynb")
    monkeypatch.setattr(report, "NOTEBOOK", notebook)
    clip = write_video(tmp_path / "a.mp4", np.zeros((3, 20, 20, 3), np.uint8), 25)
    with pytest.raises(UserError, match=r"^13_tiny.ipynb: cell \[3\] failed with ValueError: no frame$"):
        report.report_clip(clip, tmp_path / "a.html")
    assert not list((tmp_path / "runs").rglob("*.ipynb"))


def test_two_reports_at_once_export_one_demonstration(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.method("spact")
    exports = []

    def export(study: Study, method: str, folder: Path) -> Path:
        exports.append(folder)
        time.sleep(0.2)
        folder.mkdir()
        return folder

    monkeypatch.setattr(report, "export", export)
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(report.demonstration, [study, study]))
    assert folders == set(exports) and len(exports) == 1
