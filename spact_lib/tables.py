"""Tables beside the paper's: from the records of finished specs, so a table needs no training where these exist.

A table is tidy: one row per (metric, method). ``table_text`` has what makes text of it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from spact_lib.claims import t_interval
from spact_lib.config import AnonymizerSpec, Method, NoiseFeaturesSpec, Spec
from spact_lib.errors import missing_left_out, unknown_name
from spact_lib.footnotes import FAULTS, distinct, faults
from spact_lib.methods import TABLES, paper_rows
from spact_lib.metrics import headline, headline_chance
from spact_lib.paper import relative_drop, reported, reported_drop
from spact_lib.paths import runs_root
from spact_lib.protocols import Column, Protocol, Target, is_own
from spact_lib.results import keep_records, training_forbidden
from spact_lib.store import TRAINED, Artifact, NotTrainedError, trained_parts
from spact_lib.study import Study, each_once, open_study

LABELS = {  # of rows that are not called by their name
    "raw": "Raw data",
    "identity": "Identity (Eq. 4 only)",
    "downsample_2x": "Downsample-2x",
    "downsample_4x": "Downsample-4x",
    "downsample_2x_up": "Downsample-2x, up again",
    "downsample_4x_up": "Downsample-4x, up again",
    "obf_blackening": "Obf-Blackening",
    "obf_strong_blur": "Obf-StrongBlur",
    "obf_weak_blur": "Obf-WeakBlur",
    "noise_features": "Noise-features (after [46])",
    "supervised": "Supervised [41]",
    "spact": "SPAct",
    "spact_plus": "SPAct+ (3 f_B steps)",
    "spact_clamped": "SPAct, clamped L_B",
    "frozen_f_B_clamped": "f_B frozen, clamped L_B",
    "spact_stills": "SPAct, pairs of stills",
    "no_f_B": "No f_B",
    "frozen_f_B": "f_B frozen",
    "spatiotemporal_f_B": "Spatio-temporal f_B",
    "more_than_64_frames": "Pairs > 64 frames apart",
    "less_than_8_frames": "Pairs < 8 frames apart",
    "moco": "MoCo",
    "rotnet": "RotNet",
    "smaller_f_B": "Smaller f_B",
    "larger_f_B": "Larger f_B",
    "r2plus1d_f_T": "f_T R(2+1)D",
    "mc3_f_T": "f_T MC3",
    "tedspad": "TeD-SPAD's L_T",
    "one_direction": "Eq. 5 in one direction",
    "weights_1_1": "L_T and L_B 1 : 1",
    "other_stage_f_T": "Other last stage of f_T",
    "on_raw": "f_T, f_B start on raw",
}
METRICS = {"top1": "top-1", "cmap": "cMAP", "f1": "F1"}
WITH_OFFICIAL_F1 = METRICS | {"f1_official": "raw-logit F1"}  # the official code's threshold: a raw logit above 0.5
SAID_BELOW = ["boxes", "classes", "largest", *FAULTS]  # columns that no table prints, nor "which"


def label(method: str, boxes: str = "") -> str:
    """A method's name for readers; that persons were not found but known (``ObfuscationSpec.boxes``) is said."""
    return LABELS.get(method, method) + (f" ({boxes} boxes)" if boxes in ("oracle", "marked") else "")


def label_in(study: Study, method: str) -> str:
    """A row's label in a study, which says whose boxes it uses."""
    return label(method, getattr(study.method(method), "boxes", ""))


def labelled(study: Study, methods: Iterable[str]) -> dict[str, Method]:
    """The methods of a study by their labels, for strips of frames."""
    return {label_in(study, name): study.method(name) for name in methods}


def is_action(metric: str) -> bool:
    """Whether a metric of a table is utility, to be kept; else privacy."""
    return "action" in metric.split()


def table(
    name: str, *studies: Study, methods: Iterable[str] = (), protocols: Iterable[str] = (),
    metrics: Mapping[str, str] = METRICS,
) -> pd.DataFrame:  # fmt: skip
    """A table of the paper (``TABLES``) for one replicate, or the mean over several.

    Args:
        methods: rows; none: all rows of that table. Drops are from raw, so its row is always there.
        protocols: groups of columns, such as ``TABLE_PROTOCOLS``; none: the studies' own.
        metrics: to be shown, by their names in records.

    Returns:
        Index (metric, method). Columns: ``here`` (top-1 and cMAP in percent, F1 in [0, 1]; mean over the target
        seeds), ``chance`` (its chance line), ``drop`` (relative, from raw, in percent), ``paper``, ``paper drop``,
        ``difference`` (of the two drops, in points), ``omega`` (of noise-features: sigma), ``seeds`` (of the targets),
        ``replicates``, ``minutes`` (of training this row needs, shared initialisation and the search for omega
        included; NaN where no replicate has records of that search), ``hardware``, ``which`` (replicates, in words),
        ``boxes`` (of persons: "oracle", "coco", or "" where a method looks for none), ``classes`` (how many have a
        positive, which a cMAP is the mean over), ``largest`` (in which replicates, in words, the row took the largest
        omega or sigma of its grid), ``set_aside`` (rows of each split whose files are missing or unusable),
        ``collapsed`` (the method, if its f_A gives one picture). Several replicates add ``low``, ``high``, ``drop low``
        and ``drop high``, 95 % t-intervals over replicates; drops are taken within a replicate.

    Raises:
        UserError: an unknown table, or a method that cannot be trained (``Study.check``), before anything is.
        NotTrainedError: a record is missing where training is forbidden.
    """
    if name not in TABLES:
        raise unknown_name("table", name, TABLES)
    methods, protocols = list(methods or TABLES[name]), list(protocols)
    methods = methods if "raw" in methods else ["raw", *methods]
    for study in studies:
        study.check(methods)
    # Where no data are drawn, two draws with one seed are the same replicate; it must not be averaged with itself.
    studies = each_once(studies)
    parts = [[study.under(p) for p in protocols] if protocols else [study] for study in studies]
    each = [pd.concat([_method_rows(name, s, method, metrics) for s in part for method in methods]) for part in parts]
    for one in each:
        raw = one["here"].xs("raw", level="method")
        one["drop"] = [relative_drop(row.here, raw[metric]) for (metric, _), row in one.iterrows()]
    stacked = pd.concat(each).groupby(level=["metric", "method"], sort=False)
    means = stacked[["here", "chance", "drop", "paper", "paper drop"]].mean()
    means["minutes"] = stacked["minutes"].median()  # another process beside one replicate must not show
    means["difference"] = means["drop"] - means["paper drop"]
    for column in ("omega", "seeds", "hardware", *SAID_BELOW):
        means[column] = stacked[column].agg(distinct)
    means["replicates"], means["which"] = len(studies), "; ".join(map(replicate, studies))
    columns = ["here", "chance", "drop", "paper", "paper drop", "difference"]
    if len(studies) > 1:
        for column, prefix in (("here", ""), ("drop", "drop ")):
            means[prefix + "low"] = stacked[column].agg(lambda values: t_interval(values)[0])
            means[prefix + "high"] = stacked[column].agg(lambda values: t_interval(values)[1])
        columns = ["here", "low", "high", "chance", "drop", "drop low", "drop high", *columns[3:]]
    shown = list(dict.fromkeys(means.index.get_level_values("metric")))
    order = pd.MultiIndex.from_product([shown, methods], names=["metric", "method"])
    return means.loc[order, [*columns, "omega", "seeds", "replicates", "minutes", "hardware", "which", *SAID_BELOW]]


def together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables with the same metrics, metric by metric as in every table."""
    rows = pd.concat(parts)
    return rows.loc[pd.MultiIndex.from_product([rows.index.unique(level) for level in rows.index.names])]


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of a table alone: a row for each method, by its label, and one for chance; a column for each
    metric."""
    rows = table["here"].unstack("metric", sort=False).rename(label)
    rows.loc["chance"] = table["chance"].groupby(level="metric").first()
    return rows


def replicate(study: Study) -> str:
    """Which one a study is, in words: its draw, if it has one, and seed."""
    own = any(is_own(role.dataset) for role in study.protocol.roles)
    drawn = f"draw {study.profile.draw}, " * (study.profile.source == "mini" and not own)
    return f"{drawn}seed {study.seed}"


def _paper_row(lookup: Callable[..., float | None], table: str, method: str, *column: str) -> float | None:
    row = paper_rows(table).get(method)
    return lookup(table, row, *column) if row else None


def of_paper(name: str, protocol: Protocol) -> pd.DataFrame:
    """All rows of the paper's table in its own numbers, those among them that are left out here by default.

    Returns:
        Index (metric, method) as of ``table``, column ``paper``; no rows where the protocol is none of the paper's.
    """
    found = {
        (f"{column.name} {METRICS[metric]}", method): value
        for target in protocol.targets.values()
        for column in target.columns
        for metric in METRICS
        for method, row in paper_rows(name).items()
        if (value := reported(name, row, column.paper, metric)) is not None
    }
    index = pd.MultiIndex.from_tuples(found, names=["metric", "method"])
    return pd.DataFrame({"paper": [*found.values()]}, index, dtype=float)


def column_means(
    asked: Target, of_seeds: Iterable[Sequence[dict]], metrics: Mapping[str, str] = METRICS
) -> Iterator[tuple[Column, str, pd.Series]]:
    """(column, metric, mean scores over target seeds) of a target, its chance line among them as ``chance``.

    Args:
        of_seeds: for every seed, the metrics of each column.
    """
    for column, scores in zip(asked.columns, zip(*of_seeds, strict=True), strict=True):
        means = pd.DataFrame(scores).mean(numeric_only=True)
        # The paper has no F1 for an action.
        for metric in (m for m in metrics if m in means and not (m.startswith("f1") and is_action(column.name))):
            chance = means[metric.removesuffix("_official") + "_chance"]
            yield column, metric, pd.concat([means, pd.Series({"here": means[metric], "chance": chance})])


def _method_rows(table: str, study: Study, name: str, metrics: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one method in one replicate, without drops."""
    method, seeds = study.method(name), study.profile.target_seeds
    tried: dict[str, Spec] = {}
    # What choosing omega cost belongs to the row, raw's part of it, too; a collapse of another omega does not.
    if candidates := study.tried(name):
        for candidate in (study.method("raw"), *candidates):
            tried |= trained_parts(study.choice_spec(candidate))
    specs: dict[str, Spec] = {}
    rows, classes = {}, {}
    for target, asked in study.protocol.targets.items():
        for seed in seeds:
            specs |= trained_parts(study.score_spec(method, target, seed))
        for column, metric, means in column_means(
            asked, (study.scores(method, target, seed) for seed in seeds), metrics
        ):
            rows[f"{column.name} {metrics[metric]}", name] = {
                "here": means["here"],
                "chance": means["chance"],
                "paper": _paper_row(reported, table, name, column.paper, metric),
                "paper drop": _paper_row(reported_drop, table, name, column.paper, metric),
            }
            classes[f"{column.name} {metrics[metric]}", name] = f"{means['n_classes']:.0f}" if metric == "cmap" else ""
    records = {key: study.store.run(spec).record for key, spec in specs.items()}
    searched = {key: run.record for key, run in _runs_at_hand(study, tried).items()}
    found = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    found.index = pd.MultiIndex.from_tuples(rows, names=["metric", "method"])
    return found.assign(
        omega=_strength(method),
        seeds=" ".join(map(str, seeds)),
        boxes=getattr(method, "boxes", ""),
        classes=list(classes.values()),
        largest=replicate(study) * study.took_the_largest(name),
        minutes=minutes_of((searched | records).values()) if len(searched) == len(tried) else math.nan,
        hardware=hardware_of((searched | records).values()),
        **faults(((spec, records[key]["metrics"]) for key, spec in specs.items()), label(name)),
    )


def minutes_of(records: Iterable[dict]) -> float:
    """Minutes that made these records."""
    return sum(record["seconds"] for record in records) / 60


def hardware_of(records: Iterable[dict]) -> str:
    """On what these records were made, the beginnings of interrupted runs too."""
    places = [each for record in records for each in (record["environment"], *record.get("earlier_environments", ()))]
    return distinct("{device}, threads: {threads}".format(**each) for each in places)


def _strength(method: Method) -> str:
    if isinstance(method, NoiseFeaturesSpec):
        return f"sigma {method.sigma:g}"
    return f"{method.omega:g}" if isinstance(method, AnonymizerSpec) else ""


def parts_at_hand(study: Study, specs: Iterable[Spec]) -> list[tuple[Spec, dict]]:
    """Of ``trained_parts`` of several specs those with records, and their metrics; they are kept like what is used."""
    parts = {key: part for spec in specs for key, part in trained_parts(spec).items()}
    return [(parts[key], run.metrics) for key, run in _runs_at_hand(study, parts).items()]


def _runs_at_hand(study: Study, parts: Mapping[str, Spec]) -> dict[str, Artifact]:
    here, found = reading(study).store, {}
    for key, part in parts.items():
        with suppress(NotTrainedError):
            found[key] = here.run(part)
    study.store.used |= here.used
    return found


def reading(study: Study, root: Path | None = None) -> Study:
    """The same study, which trains nothing: its records are in the store (or in ``root``), else committed."""
    return replace(study, store=study.store.reading(root))


def is_at_hand(name: str, study: Study, **shown: Iterable[str]) -> bool:
    """Whether a table (of rows or columns, as for ``table``) needs no more training; ``study`` is only reading."""
    with missing_left_out():  # its data, too, may not be here
        table(name, study, **shown)
        return True
    return False


def at_hand(
    name: str, profile: str, protocol: str, replicates: Iterable[Iterable[int]], *, methods: Iterable[str] = (),
    root: Path | None = None, **changes: object,
) -> list[Study]:  # fmt: skip
    """The replicates whose table needs no more training: in the store, or committed. Their studies are only reading.

    Args:
        replicates: pairs (draw, seed).
        methods: rows, as for ``table``.
        changes: as for ``open_study``.
    """
    found = []
    with training_forbidden():  # so that committed records do where a replicate's data are not
        for draw, seed in replicates:
            with missing_left_out():
                found.append(reading(open_study(profile, draw=draw, seed=seed, protocol=protocol, **changes), root))
        return [study for study in found if is_at_hand(name, study, methods=methods)]


def omega_curve(
    study: Study, omegas: Iterable[float], *, always: Iterable[float] = (), train: bool = False, method: str = "spact"
) -> pd.DataFrame:
    """What a learned method keeps and leaks for each omega (Fig. 4's curve): the first column of each of the protocol's
    ``axes``, mean over the study's target seeds.

    Args:
        omegas: weights of L_B.
        always: further ones, which are trained in any case.
        train: train what is missing; else of ``omegas`` those at hand are shown.

    Returns:
        Index ``omega``, from small to large. Columns ``action`` and ``privacy``: top-1 or cMAP in percent;
        ``action chance`` and ``privacy chance``; ``parts``, the keys of what was trained for it; those of
        ``footnotes.faults``.

    Raises:
        NotTrainedError: a record of ``always`` is missing where training is forbidden.
        UserError: the protocol has one axis alone.
    """
    axes, always = dict(zip(("action", "privacy"), study.protocol.axes, strict=True)), {*always}
    other, found = reading(study), {}
    for omega in sorted({*omegas, *always}):
        from_store = study if train or omega in always else other
        spec = study.anonymizer(method, omega)
        with nullcontext() if from_store is study else suppress(NotTrainedError):
            scores = {
                axis: [from_store.scores(spec, target, seed)[0] for seed in study.profile.target_seeds]
                for axis, target in axes.items()
            }
            parts: dict[str, Spec] = {}
            for target, seed in product(axes.values(), study.profile.target_seeds):
                parts |= trained_parts(study.score_spec(spec, target, seed))
            made = [(part, from_store.store.run(part).metrics) for part in parts.values()]  # kept, for their minutes
            found[omega] = {axis: np.mean([headline(metrics) for metrics in of]) for axis, of in scores.items()} | {
                f"{axis} chance": np.mean([headline_chance(metrics) for metrics in of]) for axis, of in scores.items()
            }
            found[omega] |= {"parts": tuple(parts)} | faults(made, f"{label(method)}, omega {omega:g}")
    study.store.used |= other.store.used
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("omega")


def trained_records(studies: Iterable[Study]) -> dict[str, dict]:
    """Key -> record of what cost minutes among all that the studies trained or looked up."""
    used = [item for study in studies for item in study.store.used.items()]
    return {key: record for key, record in used if record["kind"] in TRAINED}


def keep_used(name: str, *studies: Study) -> Path:
    """Keep the records that the studies trained or looked up in ``records/<profile>`` of the store, for promotion."""
    return keep_records(trained_records(studies), runs_root() / "records" / studies[0].profile.name, name)
