"""A trained anonymizer as one folder: weights, resolved spec, model card. ``Anonymizer.from_pretrained`` reads it."""

import json
import os
import secrets
import shutil
from pathlib import Path

from spact_lib import __version__
from spact_lib.apps.anonymize import NOT_OFFERED
from spact_lib.config import AnonymizerSpec, DataSpec, InitAnonymizerSpec
from spact_lib.errors import UserError, missing_left_out, unknown_name
from spact_lib.footnotes import left_out
from spact_lib.methods import METHODS
from spact_lib.networks.anonymizer import CONFIG, FORMAT, WEIGHTS, Anonymizer, digest
from spact_lib.protocols import is_own
from spact_lib.store import Artifact, manifest_of
from spact_lib.study import Study
from spact_lib.table_text import in_markdown, printable
from spact_lib.tables import label, table


def check(method: str, folder: Path) -> None:
    """Refuse now what would else end hours of training.

    Raises:
        UserError: an unknown method, one without an f_A, one that is not offered; the folder holds something already.
    """
    without_f_A = {name for name, kind in METHODS.items() if kind in ("baseline", "obfuscation")}
    if method not in METHODS:
        raise unknown_name("method", method, METHODS.keys() - NOT_OFFERED.keys() - without_f_A)
    if method in NOT_OFFERED:
        raise UserError(f"{NOT_OFFERED[method]}; choose another method")
    if method in without_f_A:
        raise UserError(f"{method} has no f_A to export; `spact anonymize --anonymizer {method}` knows it by name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is already there; choose another place, or remove it")


def drawn(study: Study) -> bool:
    """Whether a study learns from the built-in data, and so knows nothing but drawn pictures."""
    return study.profile.source == "mini" and not any(is_own(role.dataset) for role in study.protocol.roles)


def export(study: Study, method: str, folder: Path) -> Path:
    """Write f_A of a row of Table 1 to ``folder``: ``f_A.safetensors``, ``config.json``, ``README.md``; all or none.

    What is not in the study's store yet is trained first: the anonymizer, and the targets whose scores the card gives.

    Raises:
        UserError: as ``check``.
        NotTrainedError: something is missing where training is forbidden.
    """
    folder = folder.resolve()  # "." has no name
    check(method, folder)
    spec = study.method(method)
    weights = study.store.files(spec) / WEIGHTS
    artifact = study.store.run(spec)
    start = spec if isinstance(spec, InitAnonymizerSpec) else spec.f_A
    config = {
        "format": FORMAT,
        "method": method,
        "profile": study.profile.name,
        "width": start.width,
        "short_side": start.view.stored_side,
        "precision": start.precision,
        "spact": __version__,
        "sha256": digest(weights),
        "key": spec.key(),
        "spec": spec.model_dump(mode="json"),
    }
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        shutil.copyfile(weights, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        Anonymizer.from_pretrained(temporary)  # what cannot be read back is not handed out
        (temporary / "README.md").write_text(model_card(study, method, spec, artifact), encoding="utf-8")
        os.replace(temporary, folder)
    except OSError:
        check(method, folder)  # another process was faster
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def training_rows(data: DataSpec) -> str:
    """How many rows an f_A learned from; nothing where its data are not here any more."""
    with missing_left_out():
        return f", {len(manifest_of(data).select('train')):,} training rows"
    return ""


def model_card(study: Study, method: str, spec: InitAnonymizerSpec | AnonymizerSpec, artifact: Artifact) -> str:
    """Markdown. Every number comes from a spec or a record."""
    scores = table("table1", study, methods=["raw", method])
    start = spec if isinstance(spec, InitAnonymizerSpec) else spec.f_A
    record, environment = artifact.record, artifact.record["environment"]
    text = printable(scores)
    stand_in = " (drawn, in place of the dataset of that name)" if drawn(study) else ""
    parameters = sum(p.numel() for p in Anonymizer(start.width).parameters())
    lines = [f"# {label(method)} anonymizer, profile {study.profile.name}", ""]
    if drawn(study):
        lines += [
            "**A demonstration.** It learned from drawn pictures, not from people: it shows how the tools work, and",
            "protects nobody. For real videos, learn one on real data.",
            "",
        ]
    elif study.profile.name == "smoke":
        lines += [
            "**A trial run.** Profile smoke trains for a handful of steps, to say that training runs, and no more: it",
            "protects nobody. For real videos, learn one with profile mini or paper.",
            "",
        ]
    lines += [
        "SPAct (Dave, Chen, Shah, CVPR 2022), reproduced: a network that maps every frame of a video to one in which",
        "the action is to stay recognisable and private attributes are not.",
        "",
        "## What it is",
        "",
        f"- A U-Net of width {start.width}, {parameters:,} parameters; frames with a short side of "
        f"{start.view.stored_side} pixels in and out, any aspect.",
        f"- `{WEIGHTS}`: weights. `{CONFIG}`: all settings (key `{record['key']}`).",
        "- `spact anonymize IN OUT --anonymizer FOLDER` applies it to videos.",
        "- In Python: `from spact_lib.networks.anonymizer import Anonymizer`, then",
        '  `f_A = Anonymizer.from_pretrained("FOLDER")` (on the CPU, in eval mode); `f_A(frames)` takes RGB frames,',
        "  float32 in [0, 1], of shape (n, 3, h, w) with the short side above, and returns as many of the same kind.",
        "",
        "## Data and method",
        "",
        f"- action: {in_markdown(start.action.name)}{stand_in}, task {in_markdown(study.protocol.action.task)}"
        f"{training_rows(start.action)}",
        f"- privacy: {in_markdown(start.privacy.name)}{stand_in}, task {in_markdown(study.protocol.privacy.task)}"
        f"{training_rows(start.privacy)}",
        f"- initialised to the identity (Eq. 4): {start.schedule.steps} steps, seed {start.seed}",
    ]
    if isinstance(spec, AnonymizerSpec):
        branch = spec.f_B.branch
        labels = f"with the labels of task {in_markdown(branch.task)}" if branch.task else "without privacy labels"
        lines.append(
            f"- minimax game (Eq. 9): L_B {branch.loss} {labels}, omega {spec.omega:g}, {spec.schedule.steps} steps, "
            f"seed {spec.seed}"
        )
    lines += [
        f"- made {record['made']} on {environment['device']} with spact {environment['spact']} "
        f"(commit {environment.get('commit') or 'unknown'}), torch {environment['torch']}",
        "",
        "## Action kept, privacy left",
        "",
        "Test data, read from 8-bit frames by fresh networks (target seeds "
        f"{scores['seeds'].iloc[0]}): they learned on its output, and it never met them. Others",
        "may read more: longer training, larger networks, whole videos (notebook 14).",
        "top-1 and cMAP in percent. Chance: of the most frequent class (top-1), of a random ranking (cMAP), of always",
        "saying present (F1). What lies above chance can still be recognised.",
        "",
        "| metric | this anonymizer | raw | chance |",
        "|---|---|---|---|",
    ]
    for metric in scores.index.unique("metric"):
        here, raw = text.loc[(metric, label(method))], text.loc[(metric, label("raw"))]
        lines.append(f"| {metric} | {here['here']} | {raw['here']} | {here['chance']} |")
    lines += [
        "",
        *map(in_markdown, left_out(scores)),
        "One trained network, one set of attributes: another seed may move any number by points.",
        "",
        "## Intended use",
        "",
        "Research on privacy-preserving action recognition, on data like those above and at the frame size above.",
        "",
        "## Limits",
        "",
        "- It is measured, not proven, and only for the attributes, data, frame size and attackers above. Other",
        "  people, cameras, attributes, larger frames or stronger attackers may reveal more.",
        "- Each frame is treated by itself: who follows a person through a video, or knows them, has more to go by.",
        "- It changes pixels only: sound, file names, times and places identify too.",
        "- It is no legal anonymization, and no reason to publish videos of people who did not agree.",
        "",
    ]
    return "\n".join(lines)
