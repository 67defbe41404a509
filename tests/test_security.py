"""Nothing from outside is unpickled, run or unpacked; no archive, path or name leads out of its folder."""

import ast
import io
import json
import pickle
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from data_prep import archives
from spact_lib import obfuscation, table_text
from spact_lib.errors import UserError
from spact_lib.manifest import read_manifest
from spact_lib.packed import PackedFrames
from spact_lib.paths import REPOSITORY, committed_notebooks
from spact_lib.training import Run

FOLDERS = ("spact_lib", "data_prep", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
SOURCES += committed_notebooks()
FORBIDDEN_MODULES = {
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "pickle",
    "shelve",
    "tarfile",
    "yaml",
    "zipfile",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "shutil.unpack_archive", "pd.read_pickle"}
FORBIDDEN_CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput"}
SHELLS = {"sh", "bash", "dash", "zsh", "cmd", "powershell"}


def calls(tree: ast.AST) -> list[tuple[str, dict[str, ast.expr]]]:
    """(dotted name, keywords) of every call."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), {word.arg: word.value for word in node.keywords}) for node in found]


def faults(text: str) -> list[str]:
    """What of a module could run what it reads."""
    tree, found = ast.parse(text), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            found += [f"{alias.name} of torch by a name of its own" for alias in node.names if alias.name == "load"]
        found += [f"import {name}" for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
    for name, words in calls(tree):
        given = {word: ast.unparse(value) for word, value in words.items() if word}
        if name in FORBIDDEN_CALLS or given.get("shell", "False") != "False":
            found.append(name)
        if given.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if name.startswith(("os.exec", "os.spawn")) or name.endswith("create_subprocess_shell"):
            found.append(name)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
    for node in ast.walk(tree):
        command = node.elts[0] if isinstance(node, ast.List | ast.Tuple) and node.elts else None
        if isinstance(command, ast.Constant) and str(command.value).rpartition("/")[2] in SHELLS:
            found.append(f"a shell: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_can_run_what_it_reads(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load(p)", "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)", "subprocess.run(f'tar {p}', shell=True)", "os.system(p)", "eval(p)",
        "import tarfile", "import cloudpickle", "import yaml", "run(['sh', '-c', text])", "run(('/bin/bash', p))",
        "subprocess.getoutput(p)", "os.execvp(p, q)", "from torch import load", "import _pickle",
        "asyncio.create_subprocess_shell(p)",
    ],
)  # fmt: skip
def test_what_would_be_found(text: str) -> None:
    assert len(faults(text)) == 1


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_store_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "sprung"
    assert pickle.loads(pickle.dumps(Trap(mark))) is None and mark.exists()
    mark.unlink()
    torch.save({"network": Trap(mark)}, tmp_path / "checkpoint.pt")
    np.save(tmp_path / "index.npy", np.array([Trap(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="checkpoint.pt cannot be continued from .UnpicklingError"):
        Run(tmp_path, {"network": nn.Linear(1, 1)}, {})
    with pytest.raises(ValueError, match="allow_pickle"):
        PackedFrames(tmp_path)
    assert not mark.exists()


def test_a_pickle_in_place_of_the_detectors_weights_is_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = obfuscation.detector_weights()
    assert place.is_relative_to(tmp_path)
    place.parent.mkdir(parents=True)
    torch.save({"backbone": Trap(tmp_path / "sprung")}, place)
    with pytest.raises(UserError, match="the person detector's weights cannot be .*[Ww]eights.only"):
        obfuscation.detector("coco", Path("nowhere"), None)
    assert not (tmp_path / "sprung").exists()


# --- archives: what we tell people to type, on archives that try to leave their folder ---


def tar(path: Path, mode: str, outside: Path) -> None:
    with tarfile.open(path, mode) as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 4 * (kind == tarfile.REGTYPE)
            archive.addfile(member, io.BytesIO(b"evil") if member.size else None)

        add("good.avi")
        add("../evil1.avi")
        add(f"{outside}/evil2.avi")
        add("folder", tarfile.SYMTYPE, str(outside))
        add("folder/evil3.avi")
        add("up", tarfile.SYMTYPE, "../outside")
        add("up/evil4.avi")
        add("null", tarfile.CHRTYPE)


def zip_file(path: Path, outside: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("good.avi", "../evil1.avi", f"{outside}/evil2.avi"):
            archive.writestr(name, b"evil")
        link = zipfile.ZipInfo("folder")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(outside))
        archive.writestr("folder/evil3.avi", b"evil")


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_what_we_tell_people_to_type_keeps_an_archive_in_its_folder(tmp_path: Path, ending: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "-it's my root"
    outside.mkdir(), root.mkdir()
    name = f"-odd 'name' é{ending}"
    if ending == ".zip":
        zip_file(root / name, outside)
    else:
        tar(root / name, "w:gz" if "gz" in ending else "w", outside)
    said = str(archives.absent(root / "media", "-odd 'name' é", root=root))
    command = shlex.split(said.partition("is there: ")[2].split(" (or ")[0])
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    assert str(root / name) in command
    # -n or its like is not needed: what exists outside is not overwritten because nothing is written there.
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (root / "good.avi").exists()
    assert not list(outside.iterdir()) and not (tmp_path / "evil1.avi").exists()
    escaped = [path for path in tmp_path.rglob("evil*") if not path.resolve().is_relative_to(root.resolve())]
    assert escaped == []


def test_a_name_that_looks_like_an_option_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-root").mkdir()
    zip_file(Path("-root") / "a.zip", tmp_path / "outside")
    said = str(archives.absent(Path("-root") / "media", "a", root=Path("-root")))
    command = shlex.split(said.partition("is there: ")[2].split(" (or ")[0])
    assert not any(word.startswith("-root") for word in command[1:])
    assert "for name in ./*.rar" in archives.unpack_each(Path("-root"), ".rar")


OUTSIDE = ["../a.avi", "a/../../b.avi", "a\n/../../b.avi", "..", "a\n/..", "/a", "~a", "c:a", "a\\..\\b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(f'path,split,c:single\n"{name}",train,x\n')
    with pytest.raises(UserError, match=r"line 2: path .* must be relative"):
        read_manifest(tmp_path / "t.csv")


def test_tables_escape_what_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    index = pd.MultiIndex.from_tuples([("<b>&_", "raw")], names=["metric", "method"])
    text = pd.DataFrame(
        {"here": ["<img src=x>"], "hardware": ["a & b_c"], "classes": ["<i>"], "omega": [""]}, index=index
    )
    monkeypatch.setattr(table_text, "printable", lambda table: text)
    shown = table_text.Shown(text)._repr_html_()
    assert "<img" not in shown and "<b>" not in shown and "<i>" not in shown and "&lt;img src=x&gt;" in shown
