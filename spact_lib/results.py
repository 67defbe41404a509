"""Records of finished specs: kept beside the notebooks as JSON lines, found again by the hash of the spec."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock

from spact_lib.config import Spec
from spact_lib.errors import DamagedError
from spact_lib.files import disk_errors, read_json, write_json, write_text
from spact_lib.paths import NOTEBOOKS

RECORDS = NOTEBOOKS / "records"


@cache
def _committed(folder: Path) -> dict[str, dict]:
    records = {}
    for path in sorted(folder.glob("[!.]*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                earlier = records.setdefault(record["key"], record)
                if record["made"] > earlier["made"]:  # made again, with other weights
                    records[record["key"]] = record
            except (ValueError, TypeError, KeyError, RecursionError):
                raise DamagedError(f"{path}, line {number}: {line[:40]!r} is no record; restore the file") from None
    return records


def find_committed(spec: Spec) -> dict | None:
    """The committed record of a spec, or None."""
    return _committed(RECORDS).get(spec.key())


def keep_records(records: dict[str, dict], folder: Path, name: str) -> Path:
    """Write the records that a notebook used to ``folder/name.jsonl``, and its datasets' fingerprints to ``data.json``.

    The nested specs are left out of the kept lines (the key is their hash); a record keeps its own metrics,
    environment and seconds.
    """
    lines, datasets = [], {}
    for key in sorted(records):
        record = records[key]
        _collect_data(record.get("spec"), datasets)
        lines.append(json.dumps({k: v for k, v in record.items() if k != "spec"}))
    catalogue = folder / "data.json"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # or of two processes that add to the catalogue one would lose
            if catalogue.exists():
                datasets = read_json(catalogue) | datasets
            if datasets:
                write_json(catalogue, dict(sorted(datasets.items())))
    _committed.cache_clear()  # or this process would go on without what it has just written
    return write_text(folder / f"{name}.jsonl", "".join(line + "\n" for line in lines))


def _collect_data(spec: object, found: dict[str, str]) -> None:
    if not isinstance(spec, dict):
        return
    if "fingerprint" in spec:
        found[spec["name"]] = spec["fingerprint"]
    for value in spec.values():
        _collect_data(value, found)


@contextmanager
def training_forbidden() -> Iterator[None]:
    """Studies that are opened within it train nothing, and need no data where their records are committed."""
    before = os.environ.get("SPACT_READ_ONLY")
    os.environ["SPACT_READ_ONLY"] = "1"
    try:
        yield
    finally:
        os.environ.pop("SPACT_READ_ONLY")
        if before is not None:
            os.environ["SPACT_READ_ONLY"] = before
