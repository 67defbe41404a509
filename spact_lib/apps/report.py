"""One clip before and after: what notebook 13 shows of it, and that notebook as one HTML file without code.

Classifiers are the fresh targets of a study, found in its store and never trained here.
"""

import hashlib
import html
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from IPython.display import HTML, Markdown
from safetensors.torch import load_model
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.transforms.v2 import functional as TF

from spact_lib.apps.anonymize import Settings, anonymize, load_method
from spact_lib.apps.pretrained import drawn, export
from spact_lib.apps.transcode import Result, survey
from spact_lib.apps.viewer import show_clip
from spact_lib.attention import attention
from spact_lib.config import AnonymizerSpec, BaselineSpec, Method, TargetSpec
from spact_lib.data import ClipDataset
from spact_lib.device import pick_device
from spact_lib.errors import UserError
from spact_lib.experiments import to_tensor
from spact_lib.files import write_text
from spact_lib.manifest import Manifest, Task
from spact_lib.networks.anonymizer import FORMAT, read_config
from spact_lib.notebooks import read_notebook, run_notebook, unfinished
from spact_lib.paths import NOTEBOOKS, runs_root
from spact_lib.protocols import Target, absolute
from spact_lib.store import NotTrainedError, manifest_of
from spact_lib.study import Study, test_items
from spact_lib.table_text import in_markdown
from spact_lib.tables import label
from spact_lib.target import build_target, predict
from spact_lib.video import frame_count, read_frames

NOTEBOOK = NOTEBOOKS / "13_anonymize_your_video.ipynb"
NO_ALT = 'alt="No description has been provided for this image"'  # of nbconvert
NOT_IN_REPORT = "not-in-report"  # tag of cells that only a reader of the notebook needs
SHOWN_SIDE, SHOWN_FRAMES = 192, 120  # of the viewer: bounds its memory at any length
COMPARED_SIDE, COMPARED_FRAMES = 256, 32  # of PSNR and SSIM
ASKED_FRAMES = 16  # of which a privacy classifier's answers are the mean
SSIM_WINDOW = 11  # pixels; smaller frames have no SSIM
CLASSES = 8  # rows of a classifier's table
RELEASED = "released, classifier of released data"
POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
)


@dataclass(frozen=True)
class Case:
    """A clip and its release.

    ``spec`` is the anonymizer in the study's terms, None where the study does not know it: a baseline, or a folder
    exported from another store. ``row``: of the clip in the study's action dataset, None where it is one's own.
    """

    study: Study
    source: Path
    released: Path
    name: str
    card: str
    spec: Method | None
    result: Result
    row: int | None

    @cached_property
    def clips(self) -> dict[str, Path]:
        return {"raw": self.source, self.name: self.released}

    def frames(self, at_most: int, side: int) -> dict[str, np.ndarray]:
        """The same moments of both, spread over the clip: name -> uint8 (n, h, w, 3), ``side`` the largest short side.

        The released frames may have a pixel more, see ``transcode``.
        """
        n = min(frame_count(path) for path in self.clips.values())
        numbers = np.linspace(0, n - 1, min(n, at_most)).round().astype(int)
        side = min(side, *self.result.size)
        return {name: read_frames(path, numbers, size=side) for name, path in self.clips.items()}


def open_case(study: Study, clip: str = "", anonymizer: str = "", *, steady: bool = False) -> Case:
    """Anonymize a clip, as ``spact anonymize`` does.

    Args:
        clip: a file; empty: a test video of the study's action dataset.
        anonymizer: as for ``spact anonymize``; empty: the study's SPAct, trained first where it is not in the store.
        steady: as for ``spact anonymize``.

    Raises:
        UserError: the anonymizer is none, or the clip cannot be read.
    """
    anonymizer = anonymizer or str(demonstration(study))
    method = load_method(anonymizer)
    row, source = None, Path(clip)
    if not clip:
        manifest = manifest_of(study.data(study.protocol.action))
        row = (items := test_items(study, study.protocol.action, 5))[len(items) // 2]
        source = manifest.root / manifest.rows["path"].iloc[row]
    key = hashlib.sha256(f"{source.resolve()} {method.key} {steady}".encode()).hexdigest()[:16]
    released = runs_root() / "reports" / f"{key}.mp4"
    done, failed = anonymize([(source, released)], method, Settings(steady=steady, overwrite=True))
    if failed:
        raise UserError(failed[source])
    name, spec, card = method.name, None, ""
    if method.short_side is not None:  # a folder
        name, spec = str(read_config(anonymizer).get("method")), _spec_of(study, anonymizer)
        path = Path(anonymizer) / "README.md"
        card = path.read_text(encoding="utf-8") if path.is_file() else ""
    return Case(study, source, released, name, card, spec, done[released], row)


def demonstration(study: Study) -> Path:
    """The study's SPAct as ``spact export`` writes it, in the store; what is not there yet is trained."""
    spec = study.method("spact")
    # Protocols share an f_A, but the card has the scores of this one's targets.
    judges = [
        study.score_spec(method, target, seed)
        for method in (BaselineSpec(name="raw"), spec)
        for target in study.protocol.targets
        for seed in study.profile.target_seeds
    ]
    names = [f"format {FORMAT}", *(each.key() for each in (spec, *judges))]
    key = hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]
    folder = runs_root() / "anonymizers" / key
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # another report waits until this one has exported it
        return folder if folder.is_dir() else export(study, "spact", folder)


def _reading(study: Study) -> Study:
    return replace(study, store=study.store.reading())


def _spec_of(study: Study, folder: str) -> Method | None:
    config = read_config(folder)
    try:
        spec = _reading(study).method(str(config.get("method")))
    except UserError:  # an unknown method, or one that is not trained here
        return None
    # The key alone may be anybody's; the spec alone may be of another version of the results.
    ours = spec.key() == config.get("key") and spec.model_dump(mode="json") == config["spec"]
    return spec if ours else None


def summary(case: Case) -> HTML:
    """What went in, what came out; names of files are escaped."""
    result = case.result
    sizes = [f"{width} x {height}" for width, height in (result.size, result.processed, result.released)]
    rows = {
        "clip": case.source.name,
        "length": f"{result.duration_s:.2f} s, {result.frames} frames",
        "anonymizer": label(case.name),
        "frame size": f"{sizes[0]} in, {sizes[1]} as the anonymizer leaves it, {sizes[2]} released",
        "sound": result.audio,
        "titles, places, devices, dates": "not copied",
        "flicker": f"{result.flicker:.2f} gray levels of 255; the clip itself changes by {result.change:.2f}",
        "speed": f"{result.frames / result.seconds:.1f} frames/s, {result.method_seconds / result.seconds:.0%} of the "
        "time in the anonymizer",
        **({"note": "; ".join(result.notes)} if result.notes else {}),
    }
    styler = pd.DataFrame.from_dict(rows, orient="index").style.format(escape="html").hide(axis="columns")
    left = [{"selector": "th, td", "props": "text-align: left;"}]
    return HTML(styler.set_uuid("summary").set_table_styles(left).to_html())


def show_side_by_side(case: Case) -> None:
    """A viewer of the clip and its release, with the attention of f_B over both where the store has it."""
    clips, heat = case.frames(SHOWN_FRAMES, SHOWN_SIDE), {}
    if isinstance(case.spec, AnonymizerSpec):
        store, side = _reading(case.study).store, case.study.profile.action_view.stored_side
        seen = case.frames(SHOWN_FRAMES, side)
        try:  # raw frames as f_B sees them before the game, released ones after it
            heat = {
                name: attention(store.load_privacy(f_B), seen[name])
                for name, f_B in (("raw", case.spec.f_B), (case.name, case.spec))
            }
        except NotTrainedError:
            print("no attention maps: the store has no f_B of this anonymizer, or its record alone")
        except UserError as error:  # an f_B of clips
            print(f"no attention maps: {error}")
    show_clip(clips, fps=len(clips["raw"]) / max(case.result.duration_s, 0.01), heat=heat)


def caveat(case: Case) -> Markdown:
    """Whether the classifiers know anything of this clip."""
    study = case.study
    if case.row is None and drawn(study):
        text = (
            "**These classifiers know only drawn pictures.** They learned the built-in data and must name one of its "
            "classes whatever they see: what they say of a real video means nothing, neither before nor after. "
            "For classifiers of your own actions and attributes, label a few videos (README, *Train and test on your "
            "own videos*) and name them: `spact report CLIP --protocol my.csv:gesture/person`."
        )
    elif case.row is None:
        learned = ", ".join(dict.fromkeys(in_markdown(Path(role.dataset).stem) for role in study.protocol.roles))
        text = (
            f"They learned {learned}: of a clip that looks otherwise, they know less; if it is one of these, they may "
            "have learned it by heart."
        )
    else:
        text = "The clip is a test video of the dataset from which f_A learned the action; no classifier has seen it."
        others = [name for name, target in study.protocol.targets.items() if not _labelled(study, target)]
        if others:
            text += (
                f" The classifiers of {' and '.join(map(in_markdown, others))} learned other data, whose labels this "
                "clip has not: what they say of it cannot be checked here, only compared before and after."
            )
    return Markdown(text)


def _labelled(study: Study, target: Target) -> bool:
    """Whether a test video of the action's data has the labels that a target learns."""
    return target.learns.dataset == study.protocol.action.dataset


def answers(case: Case) -> dict[str, pd.DataFrame]:
    """What the study's classifiers say of the clip and of its release, target -> table.

    Index: classes, the most likely first. Columns, in percent: of the raw clip a classifier that learned raw data; of
    the release the same one (an attacker who does not know of the anonymizer), and one that learned released data (an
    attacker who does); ``share``, how frequent the class is in training data, so what one says without a look.
    Privacy classifiers see single frames: the mean over ``ASKED_FRAMES``.

    Classifiers that are not in the store are left out; a printed line names them, and another one says so where the
    attacker who learned released data is among them.
    """
    study, found, missing = _reading(case.study), {}, {}
    if case.spec is None:
        print(
            f"{RELEASED}: the attacker to fear was not asked. This study has none that learned such releases: the "
            "anonymizer was exported from another study or store, or learns nothing and works at the clip's own size."
        )
    raw = BaselineSpec(name="raw")
    for name in study.protocol.targets:
        spec = study.target_spec(raw, name)
        manifest = manifest_of(spec.data)
        task = manifest.task(spec.task)
        asked: list[tuple[str, TargetSpec, str]] = [
            ("raw clip", spec, "raw"),
            ("released, classifier of raw data", spec, case.name),
        ]
        if case.spec is not None:
            asked.append((RELEASED, study.target_spec(case.spec, name), case.name))
        columns = {}
        for column, target, clip in asked:
            try:
                columns[column] = _ask(study, target, task, case.clips[clip])
            except NotTrainedError:
                missing.setdefault(column, []).append(name)
        if columns:
            table = pd.DataFrame(columns, index=list(task.classes)).assign(share=_share(manifest, task))
            order = table[list(columns)].max(axis=1).sort_values(ascending=False, kind="stable").index
            found[name] = (100 * table.loc[order[:CLASSES]]).round(0).astype(int)
            if case.row is not None and _labelled(study, study.protocol.targets[name]):
                print(f"{name}: the clip's label is {manifest.rows[task.name].iloc[case.row]}")
    if missing:
        listed = "; ".join(f"{column}: {' and '.join(names)}" for column, names in missing.items())
        print(
            f"These classifiers are not in the store, and nothing was asked of them ({listed}). `spact run 04` with "
            "this PROFILE, DRAW, SEED and PROTOCOL trains those of Table 1."
        )
    action = study.protocol.action
    if any(study.protocol.targets[name].learns != action for name in missing.get(RELEASED, ())):
        print(f"{RELEASED}: the attacker to fear was not asked.")
    return found


def _share(manifest: Manifest, task: Task) -> np.ndarray:
    labels = manifest.select("train").labels(task.name)
    if task.kind == "multi":
        return labels.mean(0)
    return np.bincount(labels, minlength=task.n_classes) / len(labels)


class _Files:
    """``data.FrameSource`` of one file."""

    def __init__(self, path: Path, side: int) -> None:
        self.path, self.side = path, side

    def __len__(self) -> int:
        return 1

    def n_frames(self, row: int) -> int:
        return frame_count(self.path)

    def read(self, row: int, indices: np.ndarray) -> np.ndarray:
        return read_frames(self.path, indices, size=self.side)


def _ask(study: Study, spec: TargetSpec, task: Task, path: Path) -> np.ndarray:
    """Probabilities of the classes (K,) of a trained target for a file."""
    network, dims = build_target(spec.network, task.n_classes)
    load_model(network, study.store.files(spec) / "network.safetensors")
    device = pick_device()
    view = spec.view if dims == 3 else spec.view.model_copy(update={"test_clips": ASKED_FRAMES})
    # Only the shape of the labels counts: it says whether classes exclude each other.
    labels = np.zeros((1, task.n_classes), np.uint8) if task.kind == "multi" else np.zeros(1, np.int64)
    source = _Files(path, study.profile.action_view.stored_side)
    return predict(network.to(device), dims, ClipDataset(source, np.arange(1), labels, view), device)[0].numpy()


def similarity(case: Case) -> pd.DataFrame:
    """PSNR (dB) and SSIM of the clip and its release, mean over frames; beside them, of the clip and its mean colours.

    The second row is what a release has that shows nothing but one colour for each frame.
    """
    frames = case.frames(COMPARED_FRAMES, COMPARED_SIDE)
    raw, released = to_tensor(frames["raw"]), to_tensor(frames[case.name])
    if raw.shape != released.shape:
        released = TF.resize(released, list(raw.shape[-2:]), antialias=True)
    rows = {"released": released, "one colour": raw.mean((2, 3), keepdim=True).expand_as(raw)}
    measures: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "PSNR (dB)": lambda x, y: peak_signal_noise_ratio(x, y, data_range=1.0),
        "SSIM": lambda x, y: structural_similarity_index_measure(x, y, data_range=1.0),
    }
    if min(raw.shape[-2:]) < SSIM_WINDOW:
        del measures["SSIM"]
    return pd.DataFrame(
        {
            measure: {
                row: float(np.mean([compare(x[None], y[None]) for x, y in zip(other, raw, strict=True)]))
                for row, other in rows.items()
            }
            for measure, compare in measures.items()
        }
    ).round(3)


def model_card(case: Case) -> Markdown:
    """The card of an exported anonymizer, its headings below those of the notebook.

    It may come from anybody: of Markdown it keeps what has neither HTML nor links nor pictures, which would be read
    from this machine's disk.
    """
    none = f"{in_markdown(label(case.name))} learns nothing, so nothing was measured for it alone; Table 1 has its row."
    card = in_markdown(case.card, r"&(?!#\d+;)|[<>\[\]]|:(?=//)")  # references of ours stay
    return Markdown(re.sub(r"^#", "###", card, flags=re.MULTILINE) or none)


def report_clip(clip: Path, output: Path, *, overwrite: bool = False, **parameters: object) -> Path:
    """Notebook 13 run on a clip, as one HTML file.

    Args:
        overwrite: a file that is at ``output``.
        parameters: of the notebook, by its names.

    Raises:
        UserError: the clip cannot be read or the page not be there, before anything is trained; a wrong parameter; the
            notebook fails, of which then nothing stays.
    """
    survey(clip)
    if output.is_dir() or (output.exists() and output.samefile(clip)):
        raise UserError(f"{output} is {'a folder' if output.is_dir() else 'the clip itself'}; name the HTML file")
    if output.suffix.lower() != ".html":
        raise UserError(f"{output} would hold HTML; give a name that ends in .html")
    if output.exists() and not overwrite:
        raise UserError(f"{output} is already there; give --overwrite, or another --output")
    given = parameters | {"CLIP": str(clip.resolve())}  # a notebook works in its own folder
    if protocol := str(parameters.get("PROTOCOL", "")):
        given["PROTOCOL"] = absolute(protocol)
    anonymizer = str(parameters.get("ANONYMIZER", ""))
    if anonymizer and load_method(anonymizer).short_side is not None:
        given["ANONYMIZER"] = str(Path(anonymizer).resolve())
    digest = hashlib.sha256(repr(sorted(given.items())).encode()).hexdigest()[:16]
    executed = runs_root() / "notebooks" / "run" / f"{NOTEBOOK.stem}-{digest}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(executed.with_name(f".{executed.stem}.report.lock")):
        try:
            run_notebook(NOTEBOOK, executed, given, echo=True)
            page = html_page(executed, f"{clip.name}: before and after")
        except UserError as error:  # of a failed run it names the copy, which goes, too
            raise UserError(str(error).removesuffix(f" (the executed part: {unfinished(executed)})")) from error
        finally:
            for copy in (executed, unfinished(executed)):  # with raw frames, where nobody looks for them
                copy.unlink(missing_ok=True)
    return write_text(output, page)


def html_page(notebook: Path, title: str) -> str:
    """An executed notebook as one HTML page: no code, no script, pictures within, nothing is ever fetched."""
    # Imported here: nbconvert takes a second to import, and only this function needs it.
    from nbconvert import HTMLExporter
    from nbconvert.filters import get_metadata
    from nbconvert.preprocessors import TagRemovePreprocessor

    exporter = HTMLExporter(
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    exporter.register_preprocessor(TagRemovePreprocessor(remove_cell_tags={NOT_IN_REPORT}), enabled=True)
    content = read_notebook(notebook)
    content.metadata["title"] = title
    # Its template drops what an output says of its picture, and warns of its own doing; we put it back.
    exporter.log = logging.Logger("nbconvert", logging.ERROR)
    page, _ = exporter.from_notebook_node(content)
    outputs = [output for cell in content.cells for output in cell.get("outputs", ()) if "metadata" in output]
    for alt in filter(None, (get_metadata(output, "alt", "image/png") for output in outputs)):
        page = page.replace(NO_ALT, f'alt="{html.escape(alt)}"', 1)
    # nbconvert's page fetches MathJax and others. The policy also stops what a name could smuggle in.
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL | re.IGNORECASE)
    return page.replace("<head>", f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">', 1)
