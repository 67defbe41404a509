"""Notebooks as programs: checked parameters, papermill, and the step that commits an executed copy.

papermill only warns about a misspelt parameter, lets the defaults win when the ``parameters`` tag is lost,
and takes ``sys.exit()`` for success; all three are errors here.
"""

import ast
import hashlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from filelock import FileLock
from nbformat import NotebookNode

from spact_lib.errors import UserError, unknown_name
from spact_lib.files import write_text
from spact_lib.paths import NOTEBOOKS, REPOSITORY, committed_notebooks, official_folder, runs_root
from spact_lib.protocols import absolute

LONGEST_NAME = 180  # bytes; a file system takes 255, and a temporary name is longer
PART_OF_NAME = 60  # characters of a text that loses some
NAMED = ("PROFILE", "DRAW", "SEED", "PROTOCOL", "TARGET_SEEDS")
SIZE_LIMIT = 500_000  # bytes of a committed notebook: git history cannot shrink again
MACHINE_PATH = re.compile(r"(?<![\w.~-])(/(home|root|tmp|work|Users|mnt|opt|var)/|[A-Z]:\\)")

# (draw, seed) of the claims, never looked at while tuning; the attackers are shown the first of them.
REPLICATES = ([101, 1], [102, 2], [103, 3], [104, 4], [105, 5])
ATTACKED = 2
# What ``spact reproduce --full`` runs besides, before the claims' replicates: the start of a notebook's name, and its
# parameters: further columns and rows of the tables, the omegas of Fig. 4, other architectures, the attackers. The
# tables' further replicates are the claims'.
FULL: tuple[tuple[str, dict[str, object]], ...] = (
    *((table, {"TRAIN_FURTHER": True}) for table in ("04", "05")),
    *((table, {"TRAIN_ROWS": True}) for table in ("04", "05")),
    ("06", {"TRAIN": True}),
    ("10", {"TRAIN_ROWS": True}),
    ("14", {"TRAIN": True}),
    *(("14", {"TRAIN": True, "DRAW": draw, "SEED": seed}) for draw, seed in REPLICATES[:ATTACKED]),
)


def _whole(*numbers: object) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


# Parameters of the committed notebooks: what a value of the default's type must be besides, and how that is said.
FITTING: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("DRAW", "SEED"), (_whole, "an integer from 0 up")),
    **dict.fromkeys(("SHOWN", "BY_HAND", "ITEMS"), (lambda number: number >= 1, "an integer from 1 up")),
    "TARGET_SEEDS": (lambda seeds: _whole(*seeds) and len(set(seeds)) == len(seeds), "different integers from 0 up"),
    "REPLICATES": (lambda pairs: all(len(p) == 2 and _whole(*p) for p in pairs), "pairs [DRAW, SEED] from 0 up"),
    "CLIPS": (lambda clips: not clips or ":" in clips, '"TABLE.csv:ACTION/PRIVACY", or "" for none'),
    "CLIP_GROUPS": (
        lambda groups: len(groups) > 1 and all(isinstance(g, str) for g in groups),
        "a column of the clips' table and its values, as text",
    ),
    "ATTACKS": (lambda names: all(isinstance(name, str) for name in names), "names of attackers"),
    **dict.fromkeys(
        ("OMEGAS", "SUPERVISED_OMEGAS"),
        (lambda omegas: all(0 <= omega < math.inf for omega in omegas), "finite numbers from 0 up"),
    ),
}

log = logging.getLogger(__name__)


def digest(*parts: object) -> str:
    """A few characters for names of files, others for other parts."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:8]


def in_name(text: str, legal: str = "A-Za-z0-9_.+-") -> str:
    """A text as part of a file's name: other characters become "_", and a digest tells apart what loses any."""
    plain = re.sub(f"[^{legal}]+", "_", text).strip("_")
    return plain if plain == text else f"{plain[-PART_OF_NAME:]}_{digest(text)}"


def named_copy(path: Path, parameters: dict[str, object]) -> str:
    """The name of an executed copy: the parameters are part of it, so that no run overwrites another."""
    parts = (f"-{name}={in_name(str(value))}" for name, value in parameters.items())
    copy = f"{path.stem}{''.join(parts)}"
    if len(copy.encode()) > LONGEST_NAME:
        copy = f"{copy.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest(copy)}"
    return f"{copy}.ipynb"


def run_digest(changed: dict[str, object]) -> str:
    """Of the parameters with which a run shows something else than the notebook's own; "" where there are none.

    ``notebook_setup.suffix`` puts it into names, beside draw, seed, protocol and target seeds, so that such a run
    neither overwrites nor joins what is to be committed. What only trains more of the same is no other run.
    """
    others = {name: value for name, value in changed.items() if not name.startswith("TRAIN") and name not in NAMED}
    return digest(sorted(others.items())) if others else ""


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at ``path`` (format 4); UserError when there is none or it is not one."""
    try:
        return nbformat.read(path, as_version=4)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"no notebook at {path}") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError):
        raise UserError(f"{path} is not a notebook") from None


def notebook(start: str) -> Path:
    """The committed notebook whose name starts so."""
    found = [path for path in committed_notebooks() if path.name.startswith(start)]
    if len(found) != 1:
        legal = ", ".join(path.stem for path in committed_notebooks())
        raise UserError(f"no notebook {start!r}; give a path, or the start of one of: {legal}")
    return found[0]


def about(path: Path) -> dict[str, object]:
    """What a notebook says of itself in its metadata, under ``spact``: item of the paper, datasets, tables."""
    return dict(read_notebook(path).metadata.get("spact", {}))


def needs(path: Path, full: bool = False) -> list[str]:
    """Datasets that must be prepared before the notebook can run: ``spact.needs`` in its metadata."""
    described = about(path)
    return [*described.get("needs", []), *(described.get("full", {}).get("needs", []) if full else [])]


def declared_parameters(path: Path) -> dict[str, object]:
    """Names and defaults in the notebook's one cell tagged ``parameters``, which holds only literals."""
    cells = [cell for cell in read_notebook(path).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise UserError(f"{path.name} has {len(cells)} cells tagged 'parameters'; tag exactly one")
    declared = {}
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise UserError(f"{path.name}: the cell tagged 'parameters' is not Python: {error}") from None
    for statement in statements:
        try:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            declared[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):  # not NAME = ..., or not a literal
            code = ast.unparse(statement)
            raise UserError(
                f"{path.name}: `{code}` in the cell tagged 'parameters' is not NAME = literal; "
                "derive values in the next cell, because papermill injects after this one"
            ) from None
    return declared


def _same_type(value: object, default: object) -> bool:
    if default is None:
        return True
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list | tuple) and default:
        return type(value) is type(default) and all(_same_type(item, default[0]) for item in value)
    return type(value) is type(default)


def check_parameters(path: Path, given: dict[str, object]) -> dict[str, object]:
    """What of ``given`` differs from the notebook's defaults; UserError on unknown names and other types."""
    declared = declared_parameters(path)
    for name, value in given.items():
        if name not in declared:
            legal = ", ".join(declared) or "(none)"
            raise UserError(f"{path.name} has no parameter {name!r}; choose one of: {legal}")
        if not _same_type(value, declared[name]):
            raise UserError(
                f"{path.name}: parameter {name} = {value!r} is of type {type(value).__name__}, but its "
                f"default {declared[name]!r} is of type {type(declared[name]).__name__}"
            )
        if path.resolve().parent == NOTEBOOKS:
            _refuse_unfitting(path, name, value)
    return {name: value for name, value in given.items() if value != declared[name]}


def _refuse_unfitting(path: Path, name: str, value: object) -> None:
    fits, wanted = FITTING.get(name, (None, ""))
    if fits and not fits(value):
        raise UserError(f"{path.name}: parameter {name} = {value!r}: give {wanted}")
    # Imported here: they take seconds, and notebooks of others need none of them.
    from spact_lib.attacks import ATTACKS
    from spact_lib.config import profile
    from spact_lib.methods import METHODS, TABLES
    from spact_lib.protocols import protocol

    for each in value if isinstance(value, list) else [value]:
        if name == "PROFILE":
            profile(each)
        if name in ("PROTOCOL", "FURTHER"):
            protocol(each)
        for kind, known in {"METHOD": METHODS, "TABLE": TABLES, "ATTACK": ATTACKS}.items():
            if name.removeprefix("CLIP_") in (kind, f"{kind}S") and each not in known:
                raise unknown_name(kind.lower(), each, known)


WITH_PATHS = {"PROTOCOL": absolute, "CLIPS": absolute, "CLIP": lambda text: text and str(Path(text).resolve())}


def parse_parameters(path: Path, texts: dict[str, str]) -> dict[str, object]:
    """Parameters typed in a shell: text where the notebook's default is text, else a Python literal.

    Paths are meant from the shell's folder; a notebook works in its own.
    """
    declared, values = declared_parameters(path), {}
    for name, text in texts.items():
        try:
            is_text = isinstance(declared.get(name, ""), str)
            values[name] = WITH_PATHS.get(name, str)(text) if is_text else ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            if declared[name] is not None:
                raise UserError(
                    f"{path.name}: parameter {name} = {text} is not a Python literal like its default "
                    f"{declared[name]!r}"
                ) from None
            values[name] = text
    check_parameters(path, values)
    return values


@contextmanager
def _kernel_environment(changed: dict[str, object]) -> Iterator[None]:
    """What kernels inherit: they work in the notebook's folder, so paths must be absolute; SPACT_PROFILE
    would overrule the parameter PROFILE; text progress bars are stored once per refresh; no cell sees its defaults."""
    before = dict(os.environ)
    os.environ.update(SPACT_RUNS=str(runs_root()), SPACT_DATA=str(official_folder()), TQDM_DISABLE="1")
    os.environ["SPACT_RUN_DIGEST"] = run_digest(changed)
    os.environ.pop("SPACT_PROFILE", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def unfinished(output: Path) -> Path:
    """Where the executed part of a notebook lies while it runs, and after it failed or was killed."""
    return output.with_suffix(".failed.ipynb")


class Run(NamedTuple):
    """An executed notebook: ``first`` where nobody had begun this copy before."""

    seconds: float
    first: bool


def run_notebook(path: Path, output: Path, parameters: dict[str, object], *, echo: bool = False) -> Run:
    """Execute the notebook at ``path`` in its own folder and write the executed copy.

    ``echo`` prints what the cells print. ``output`` appears only when every cell succeeded; otherwise the executed part
    is kept beside it as ``*.failed.ipynb`` and a UserError names the cell and the error.
    """
    # Imported here: papermill takes a second to import, and only this function needs it.
    import papermill
    from nbclient.exceptions import DeadKernelError

    changed = check_parameters(path, parameters)
    output = output.resolve()
    if output.is_dir():
        raise UserError(f"{output} is a folder; name the file that the executed notebook is to become")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = unfinished(output)
    # Another process that runs it into the same copy is waited for; what it trained is then found, not trained again.
    with FileLock(output.with_name(f".{output.stem}.lock")):
        start, error = time.perf_counter(), None
        first = not (output.exists() or failed.exists())
        with _kernel_environment(changed):
            try:
                executed = papermill.execute_notebook(
                    path.resolve(), failed, changed, cwd=path.resolve().parent, kernel_name="python3",
                    language="python", progress_bar=False, stdout_file=sys.stdout if echo else None,
                    shutdown_kernel="immediate",  # else Ctrl-C waits five seconds for the cell
                    extra_arguments=["--log-level=ERROR"],  # else each kernel warns that it is reached over TCP
                )  # fmt: skip
                error = _stopped_early(executed)
            except papermill.PapermillExecutionError as caught:
                last = (str(caught.evalue).strip().splitlines() or [""])[-1]
                error = f"cell [{caught.exec_count}] failed with {caught.ename}: {last}"
            except DeadKernelError:
                error = "the Python process died (out of memory?)"
        if error:
            raise UserError(f"{path.name}: {error} (the executed part: {failed})")
        os.replace(failed, output)
    seconds = time.perf_counter() - start
    log.info("%s: %.1f min", path.name, seconds / 60)
    return Run(seconds, first)


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def _stopped_early(notebook: NotebookNode) -> str | None:
    """papermill ends without an error after ``sys.exit()``: the cells after it have not run."""
    for cell in _code_cells(notebook):
        if any(output.output_type == "error" for output in cell.outputs):
            return f"cell [{cell.execution_count}] stopped the run"
    return None


def blemishes(notebook: NotebookNode) -> list[str]:
    """What keeps a notebook from being committed: one sentence each, empty when it is fit.

    A committed notebook holds the outputs of one clean run from top to bottom, and nothing of the machine.
    """
    found = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not named python3")
    if "widgets" in notebook.metadata:
        found.append("it stores widget state")
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    if tags.count("parameters") != 1:
        found.append(f"{tags.count('parameters')} cells are tagged 'parameters', not one")
    if "injected-parameters" in tags:
        found.append("it ran with other parameters than its own")
    counts = [cell.execution_count for cell in _code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"its cells did not run once each in order: {counts}")
    for cell in notebook.cells:
        where = f"cell [{cell.get('execution_count', 'text')}] ({cell.source.strip().splitlines()[:1]})"
        outputs = cell.get("outputs", [])
        if any(output.output_type == "error" for output in outputs):
            found.append(f"{where} ended with an error")
        data = [item for output in outputs for item in output.get("data", {}).items()]
        if any("widget-view" in kind for kind, _ in data):
            found.append(f"{where} stores a widget that readers cannot see")
        texts = [cell.source, *(output.get("text", "") for output in outputs)]
        texts += [str(value) for kind, value in data if not kind.startswith("image/")]
        if path := next((match for text in texts if (match := MACHINE_PATH.search(text))), None):
            found.append(f"{where} names a path of one machine: {path.string[path.start() :][:60]!r}")
    if (size := len(nbformat.writes(notebook).encode())) > SIZE_LIMIT:
        found.append(f"it has {size} bytes, more than {SIZE_LIMIT}")
    return found


def promote(executed: Path, committed: Path) -> None:
    """Replace ``committed`` by its executed copy, without metadata of the run; UserError if it is not fit."""
    notebook, source = read_notebook(executed), read_notebook(committed)
    if [cell.source for cell in notebook.cells] != [cell.source for cell in source.cells]:
        raise UserError(f"{executed} is no run of {committed.name} as it is, with its defaults; run it again")
    text = json.dumps(notebook).replace(json.dumps(str(REPOSITORY) + os.sep)[1:-1], "")
    notebook = nbformat.from_dict(json.loads(text))
    notebook.metadata = NotebookNode(
        {key: source.metadata[key] for key in ("spact",) if key in source.metadata}
        | {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
    if found := blemishes(notebook):
        raise UserError(f"{committed.name} is not fit to be committed: {'; '.join(found)}")
    nbformat.validate(notebook)
    write_text(committed, nbformat.writes(notebook) + "\n")
