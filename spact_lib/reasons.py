"""Why a claim fails or stays open on the built-in data: a paragraph beside its verdict, and the records it rests on.

A paragraph holds no number: those stand below it, read from the records of the replicates that the verdict is from.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spact_lib.claims import CLAIMS, RIVALS, Claim, Scores, lead
from spact_lib.config import AnonymizerSpec
from spact_lib.replicates import cells
from spact_lib.results import training_forbidden
from spact_lib.store import NotTrainedError
from spact_lib.study import Study
from spact_lib.tables import label, label_in


@dataclass(frozen=True)
class Reason:
    """``why`` a claim fails, or may stay open; ``rows`` of a ``setting`` that show it; what further runs have
    ``shown`` (``Claim.evidence``), told with their scores; a setting in which SPAct's omega ``chosen`` matters;
    ``rivals`` of which the nearest is told for each replicate; what to ``mind`` whatever the verdict."""

    rows: tuple[str, ...]
    why: str = ""
    shown: str = ""
    chosen: str = ""
    rivals: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    mind: str = ""
    setting: str = "known"


NO_REASON = "No reason has been looked for yet."
WEAK_SUPERVISED = (
    "supervised plays with the omegas of SPAct's grid, and one omega is not one push: its L_B, a mean binary cross "
    "entropy, is a smaller number than NT-Xent. Where that L_B ends below where it began, its f_B has won the game; a "
    "larger omega might have hidden more: SPAct is compared with a supervised row that could be stronger. Figure 4's "
    "notebook draws both rows over omega, supervised over larger ones where these are trained."
)
WITHOUT_F_B = (
    "the game without f_B lowers cMAP, too, by L_T alone, which asks for motion and not for the look (K7; its action: "
    "Table 3). What f_B adds is the difference of the two rows."
)
REASONS: dict[str, Reason] = {
    "K1": Reason(
        (),
        mind="omega is the largest of the grid that keeps the validation action within the same points of raw, so "
        "that this claim says little more than that what validation rows promise carries over to test rows.",
    ),
    "K2": Reason(("identity", "no_f_B", "spact"), mind=WITHOUT_F_B),
    "K3": Reason(("supervised", "spact"), mind=WEAK_SUPERVISED),
    "K4": Reason((), mind="As for K3: supervised's f_B wins its game, and the row could be stronger."),
    "K5": Reason(
        ("raw", "supervised", "spact"),
        setting="scene_object",
        shown="The condition looks at objects alone. What the action lost for it stands in the notebook of novel "
        "attributes, over all replicates with one target seed, and here for one draw with two. Where no omega of the "
        "grid keeps P-HVU's validation action within the rule's points of raw, SPAct's is the smallest one, and action "
        "is lost with the objects. So the replicates differ in what was played for: which omega each one has, and why, "
        "is listed.",
        chosen="scene_object",
        mind="As for K3: supervised is not pushed as SPAct is. On P-HVU L_T, too, is a mean over classes and small, "
        "while NT-Xent is what it is on UCF101: there every omega of the grid pushes SPAct harder, which may be why it "
        "costs action.",
    ),
    "K6": Reason(
        ("obf_blackening", "spact"),
        'Where Obf-Blackening comes nearest, it is a rectangle over the actor\'s true box ("oracle"): no detector '
        "misses a frame. Most marks are drawn on the actor, so it hides more than SPAct, and SPAct is beaten or not by "
        "the action alone. The rectangle moves and grows as the actor does. That shows most of the novel actions "
        "(drifts, nod, shake, pulse), which are Fig. 4's; of the known ones some turn the actor, which a rectangle "
        "hides. f_A has learned to keep the known ones. Persons in the paper's videos act with limbs and objects, "
        "and its blackening loses action.",
        rivals=RIVALS,
    ),
    "K7": Reason(
        ("identity", "no_f_B"),
        "Eq. 4 holds f_A to the picture before the game, and nothing does in it: at omega 0 f_A learns from L_T "
        "alone. In the built-in videos the action is motion alone, so L_T gives no reason to keep the look. It is not "
        "f_B that removes it: the f_B that watches tells the videos of a batch apart the better, the further its L_B "
        "lies below the uninformative value. From frames of UCF101, which show more of the action, we expect less to "
        "go.",
        "On one draw the game without f_B was also played on P-HVU, once with an f_T that learns actions, once with "
        "one that learns scenes, which a frame shows. With the first a part of the objects was lost. With the second "
        "the scenes stayed, and with them the objects, which it does not learn either: whether the look stays depends "
        "on what f_T has to see.",
    ),
    "K8": Reason(
        ("identity", "no_f_B", "frozen_f_B", "spact"),
        "The test asks for twice the drop of the frozen row, and that row starts from what L_T alone removes (row "
        "without f_B, K7): the nearer the two are, the less of the frozen row's drop is the frozen f_B's. That is not "
        "all: from the row without f_B on, too, SPAct lowers cMAP by less than twice what the frozen f_B does. An L_B "
        "of the frozen row above the uninformative value is a fooled f_B, not an empty picture: fresh targets "
        "still read it. SPAct's own L_B ends far below that value: the paper plays until L_B is large enough, mini for "
        "a number of steps, and what a longer game or a larger omega would hide is in no run.",
    ),
    "K9": Reason(
        ("spact", "spatiotemporal_f_B"),
        "A 3-D f_B costs action only where it tells videos apart by their motion. In the built-in data look and "
        "motion are independent, and a few actions are shared by many videos: look names a video within a batch, "
        "motion only its group. So step 1 is paid for removing look, and motion stays. On mini it "
        "compares clips of half of f_T's frames, which show it less motion, too, and its 3-D f_B is the plain one, "
        "which is slow to discover motion: f_T is shown the normal flow, it is not.",
    ),
    "K10": Reason(
        ("less_than_8_frames", "spact", "more_than_64_frames"),
        "The look of a built-in video is the same from its first frame to its last, so a far pair is as true a "
        "positive as a near one; it differs more in what moves. A near pair can be matched by its place in the "
        "picture, and an L_B far below the uninformative value says that f_B still does so; a far pair only by "
        "what lasts, the attributes. The scene of a real video may change within 64 frames, which would make far "
        "pairs worse there and not here.",
    ),
    "K12": Reason(
        ("smaller_f_B", "spact", "larger_f_B"),
        "Within the few steps of mini's game a larger f_B need not tell the videos of a batch apart better: the L_B of "
        "the three networks differ from replicate to replicate as much as from each other. Where L_B ends nearer to "
        "the uninformative value less is left to read, whichever f_B it is.",
    ),
}


def explain(table: pd.DataFrame, found: Sequence[tuple[Mapping[str, Study], Scores]]) -> str:
    """A paragraph for each claim that fails or is inconclusive, and for one that holds where it has a price, or
    something is to be kept in mind; computed but for the text of ``REASONS``.

    Args:
        table: of ``verdicts.verdicts``.
        found: the replicates that it is from (``replicates.gather``).
    """
    paragraphs = []
    for claim, rows in table.groupby(level="claim", sort=False):
        verdict, further = rows["verdict"].iloc[0], _further_evidence(CLAIMS[claim], found)
        reason = REASONS.get(claim, Reason(()))
        told = verdict in ("fails", "inconclusive") or (verdict == "holds" and (further or reason.mind))
        if not told:
            continue
        lines = [f"{claim} {rows['text'].iloc[0]}: {verdict}."]
        for (_, condition), row in rows.iterrows():
            lines.append(
                f"- {condition} {row['condition verdict']}: effect {row.effect:.1f}, {row.n} replicates; "
                f"{abs(row.effect - row.margin):.1f} from the margin, resolvable from {row.resolvable:.1f} on"
            )
        if verdict == "inconclusive" and CLAIMS[claim].expected:
            lines[0] += f" It was expected to be {CLAIMS[claim].expected}, before any run."
        asked = {cell for condition in CLAIMS[claim].conditions.values() for cell in cells(condition)}
        behind = [each for each in found if asked <= set(each[1].cells)]
        if verdict == "fails":
            lines.append(f"Why: {reason.why or NO_REASON}")
        elif reason.why:
            lines.append(f"What may stand behind it: {reason.why}")
        if reason.mind:
            lines.append(f"To be kept in mind: {reason.mind}")
        if rows_told := [*filter(None, [_evidence(row, behind, reason.setting) for row in reason.rows])]:
            lines += [*rows_told, *_chance(reason.setting, behind)]
        lines += [*filter(None, [reason.shown]), *further] if further else []
        lines += _chosen(reason.chosen, found)
        for name, (setting, others) in reason.rivals.items():
            lines += [_nearest(name, *each, setting, others) for each in behind]
            lines += _chance(setting, behind, f"{name}, ")
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) or "No claim fails or is inconclusive so far."


def _evidence(method: str, found: Sequence[tuple[Mapping[str, Study], Scores]], setting: str) -> str:
    """Means over replicates of a row: those of its scores that all have, and L_B of its game beside the uninformative
    value, or, where that is not known, beside L_B before the game; "" without a record of it."""
    found = [
        (studies, scores) for studies, scores in found if any(cell[:2] == (setting, method) for cell in scores.cells)
    ]
    parts, which, games, starts, name = [], [], [], [], label(method)
    for role, metric in (("action", "a"), ("privacy", "cMAP")):
        values = [scores.cells[cell] for _, scores in found if (cell := (setting, method, role)) in scores.cells]
        if values and len(values) == len(found):
            parts.append(f"{metric} {np.mean(values):.1f}")
    for study in (studies[setting] for studies, _ in found if setting in studies):
        which.append(_which(study))
        spec = study.method(method)
        name = label_in(study, method)
        if isinstance(spec, AnonymizerSpec):
            games.append(study.store.run(spec).metrics)
            starts.append(study.store.run(spec.f_B).metrics)
    if games:
        # Supervised's uninformative value is not known; where it began says who has won.
        metric, beside = ("L_B_uninformative", games) if games[0]["L_B_uninformative"] else ("L_B", starts)
        word = "uninformative" if beside is games else "before the game"
        value, other = np.mean([game["L_B"] for game in games]), np.mean([each[metric] for each in beside])
        parts.append(f"L_B {value:.2f} ({word} {other:.2f})")
    if not parts or not which:
        return ""
    (word, *_), numbers = zip(*which, strict=True)
    return f"- {name}: {', '.join(parts)}; {word}s {', '.join(map(str, numbers))}"


def _chance(setting: str, found: Sequence[tuple[Mapping[str, Study], Scores]], where: str = "") -> list[str]:
    """What a random answer scores, mean over replicates; of scores that all of them have, as ``_evidence`` shows."""
    lines = {
        metric: [scores.chance[setting, role] for _, scores in found if (setting, role) in scores.chance]
        for role, metric in (("action", "a"), ("privacy", "cMAP"))
    }
    shown = {metric: values for metric, values in lines.items() if values and len(values) == len(found)}
    told = ", ".join(f"{metric} {np.mean(values):.1f}" for metric, values in shown.items())
    return [f"- {where}chance: {told}"] if told else []


def _which(study: Study) -> tuple[str, int]:
    """What tells a replicate from others, in a word and a number: its draw, or its seed where nothing is drawn."""
    return ("seed", study.seed) if study.profile.draw is None else ("draw", study.profile.draw)


def _chosen(setting: str, found: Sequence[tuple[Mapping[str, Study], Scores]]) -> list[str]:
    """SPAct's omega in the replicates of a setting, and the validation action that it was chosen by."""
    lines = []
    for study in (studies[setting] for studies, _ in found if setting in studies):
        with training_forbidden(), suppress(NotTrainedError):
            spec, tried = study.choose_omega("spact")
            raw = study.store.run(study.choice_spec(study.method("raw"))).metrics["val"]
            each = ", ".join(f"omega {omega:g} {value:.1f}" for omega, value in tried.items())
            chosen = f"omega {spec.omega:g}; validation action: raw {raw:.1f}, {each}"
            lines.append("- {} {}: {}".format(*_which(study), chosen))
    return lines


def _nearest(name: str, studies: Mapping[str, Study], scores: Scores, setting: str, rivals: Sequence[str]) -> str:
    """The row that comes nearest to beating SPAct on both axes, in one replicate."""
    nearest = min(rivals, key=lambda rival: lead(scores, rival, setting))
    study = studies[setting]
    told = (
        f"{label_in(study, row)} a {scores.action(row, setting):.1f}, cMAP {scores.cmap(row, setting):.1f}"
        for row in ("spact", nearest)
    )
    return "- {}, {} {}: {}".format(name, *_which(study), "; nearest ".join(told))


def _further_evidence(claim: Claim, found: Sequence[tuple[Mapping[str, Study], Scores]]) -> list[str]:
    """``Claim.evidence``, of the replicates that have it."""
    lines = []
    for studies, scores in found:
        for text, cell in claim.evidence.items():
            if cell in scores.cells:
                setting, _, role = cell
                chance = f" (chance {scores.chance[setting, role]:.1f})" if (setting, role) in scores.chance else ""
                lines.append(
                    "- {}: {:.1f}{}; {} {}".format(text, scores.cells[cell], chance, *_which(studies[setting]))
                )
    return lines
