"""The set-up files agree with each other: pyproject.toml, pins.txt, environment.yml, Makefile."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(r) for r in PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["bench"]]
INSTALL = ["-c pins.txt", "-e .[dev]"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "pins.txt").read_text().splitlines() if not line.startswith("#")]
    not_pins = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line)]
    assert not not_pins, f"pins.txt: not NAME==VERSION: {not_pins}"
    return dict(line.split("==") for line in lines)


def test_every_requirement_has_one_pin_inside_its_range():
    assert sorted(pins()) == sorted(r.name for r in REQUIREMENTS)
    outside = [str(r) for r in REQUIREMENTS if not r.specifier.contains(pins()[r.name])]
    assert not outside, f"pins.txt holds versions outside the ranges of pyproject.toml: {outside}"


def test_environment_yml_installs_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip" and from_pip == {"pip": INSTALL}
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))


def test_make_installs_the_same():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"pip install .* -c pins\.txt -e '\.\[dev\]'", makefile)
    assert "$(READY): pyproject.toml pins.txt\n" in makefile, "new pins must reinstall"


@pytest.mark.parametrize("package", ["spact_lib", "data_prep", "benchmarks"])
def test_every_source_folder_is_installed(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [f for f in folders if not (f / "__init__.py").exists()] == []


def test_the_readme_names_every_module():
    text = (ROOT / "README.md").read_text()
    listed = text[text.index("```\nnotebooks/ ") : text.index("tests/\n```")]
    modules = [path.name for path in (ROOT / "spact_lib").rglob("*.py") if not path.name.startswith("__")]
    assert [name for name in modules if not re.search(rf"\b{name}\b", listed)] == [], "add them to 'Where to find what'"


def test_ci_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and "make test" in script.read_text()
