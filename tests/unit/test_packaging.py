"""What is shipped, whom its names meet, and what a first command has to load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from stenopool.version import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
#: What takes seconds to import, or needs a device.
HEAVY = {"jax", "jaxlib", "flax", "transformers", "av", "onnxruntime", "sqlalchemy", "numpy", "huggingface_hub"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in a fresh process, in the repository."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_these_are_our_packages() -> None:
    """The list that the tests below go through is whole: every package at the top that is no test or script."""
    assert PACKAGES == ["stenopool", "workers", "scheduler", "storage", "models"]
    assert set(PACKAGES) == {path.parent.name for path in ROOT.glob("*/__init__.py")}


@pytest.mark.parametrize("name", PACKAGES)
def test_no_dependency_ships_our_package_names(name: str) -> None:
    """Flat names are short and easily taken: whoever installs one of them would mix its modules with ours."""
    shipped = packages_distributions()

    assert shipped["click"] == ["click"]
    assert set(shipped.get(name, [])) <= {"stenopool"}


def test_the_tests_have_the_servers_that_users_get() -> None:
    """What is installed on a machine may go; the wheels stay."""
    assert set(PROJECT["project"]["optional-dependencies"]["up"]) < set(map(str, PROJECT["dependency-groups"]["dev"]))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in the wheel, built anew."""
    folder = tmp_path_factory.mktemp("wheel")
    built = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert built.returncode == 0, built.stderr
    [path] = folder.iterdir()
    assert path.name == f"stenopool-{__version__}-py3-none-any.whl"
    with ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "path",
    [
        *(f"models/pocket/{name}" for name in ("model.safetensors", "config.json", "generation_config.json")),
        *(f"models/pocket/{name}" for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")),
        "models/silero/silero_vad_v6.onnx",
        "models/silero/LICENSE",
        "stenopool/formats/transcript.schema.json",
        *(f"stenopool/web/static/{name}" for name in ("style.css", "app.js", "player.js", "upload.js", "icon.svg")),
        *(f"stenopool/web/templates/{name}.html" for name in ("base", "overview", "transcript", "parts/overview")),
        f"stenopool-{__version__}.dist-info/licenses/LICENSE",
        f"stenopool-{__version__}.dist-info/licenses/NOTICE",
        *(f"{package}/py.typed" for package in PACKAGES),
    ],
)
def test_the_wheel_carries_what_is_no_module(wheel: set[str], path: str) -> None:
    """The bundled models, the schema, the licences, and the mark that our types are meant for others."""
    assert path in wheel


def test_the_wheel_carries_every_module(wheel: set[str]) -> None:
    """And nothing but our packages: no tests, no benchmarks, no samples."""
    modules = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}

    assert {name for name in wheel if name.endswith(".py")} == modules
    assert {name.split("/")[0] for name in wheel} == {*PACKAGES, f"stenopool-{__version__}.dist-info"}


def test_the_command_line_loads_nothing_heavy() -> None:
    """`stenopool --help` and mistyped options answer at once, because the model's world is imported later."""
    imported = python("-X", "importtime", "-c", "import stenopool.cli")
    modules = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", imported.stderr, re.MULTILINE)

    assert imported.returncode == 0
    assert {"stenopool.cli", "stenopool.cli.transcribe", "click"} <= set(modules)
    assert {module.split(".")[0] for module in modules} & HEAVY == set()


@pytest.mark.parametrize("command", [[], ["transcribe"]])
def test_help_has_an_example(command: list[str]) -> None:
    """Every page of help shows a line that can be copied."""
    shown = python("-m", "stenopool", *command, "--help")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^ +Example:\n +stenopool transcribe talk\.mp3 .*--format ", shown.stdout, re.MULTILINE)


def test_the_version_is_one() -> None:
    """The command says what the package says."""
    assert python("-m", "stenopool", "--version").stdout == f"stenopool, version {__version__}\n"


@pytest.mark.skipif(not os.access(Path(sys.executable).with_name("stenopool"), os.X_OK), reason="not installed")
def test_the_installed_command_is_the_module() -> None:
    """`stenopool` and `python -m stenopool` are the same program."""
    command = str(Path(sys.executable).with_name("stenopool"))
    shown = subprocess.run([command, "--version"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (shown.returncode, shown.stdout) == (0, f"stenopool, version {__version__}\n")
