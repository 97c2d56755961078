"""Looks over what infra/ has, with whatever is to be had here: `make infra-check`.

    python infra/check.py [--write]

A line for each check: ok, failed, or "not here" with what is missing. Status 1 where one failed. `--write` makes anew
what is made from something else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

INFRA = Path(__file__).parent
ROOT = INFRA.parent
#: What check.lock has.
TOOLS = ROOT / ".venv-infra" / "bin"
sys.path.insert(0, str(ROOT))  # run as a script

from stenopool.config import Config  # noqa: E402
from stenopool.errors import ServerError  # noqa: E402
from tests.ceph import apt, said_by  # noqa: E402

#: As `kubectl version` of the clusters that are meant.
KUBERNETES = "1.31"
#: What is made of this folder's parts.
RENDERED = ("base", "example")
#: Kinds of operators, which the schemas of Kubernetes do not know.
FOREIGN = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}

ALERTS = INFRA / "prometheus" / "alerts.yml"
RULES = INFRA / "kubernetes" / "monitoring" / "rules.yaml"


class NotHere(Exception):  # noqa: N818 - read as a statement
    """What is needed to look is not to be had here."""


class Failed(Exception):  # noqa: N818 - read as a statement
    """Something is wrong, and what."""


def run(*command: str | Path, where: Path = INFRA) -> str:
    """What a command says that succeeds."""
    words = list(map(str, command))
    try:
        done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        raise NotHere(f"no {Path(words[0]).name}: make infra-check gets it") from None
    if done.returncode:
        raise Failed((done.stdout + done.stderr).strip())
    return done.stdout


def there(name: str) -> str:
    """A program of this machine."""
    if (found := shutil.which(name)) is None:
        raise NotHere(f"no {name} on the PATH")
    return found


def promtool() -> Path:
    """Of Debian's package, unpacked once; nothing is installed."""
    if found := shutil.which("promtool"):
        return Path(found)
    folder = Config.from_env().cache / "prometheus"
    program = folder / "root" / "usr" / "bin" / "promtool"
    if not program.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            apt(folder, "update", "-oAcquire::Retries=1")
            apt(folder, "download", "prometheus", where=folder)
            said_by(["dpkg", "-x", str(next(folder.glob("prometheus_*.deb"))), str(folder / "root")])
        except (ServerError, StopIteration) as error:
            raise NotHere(f"no promtool on the PATH, and none from apt ({error})") from None
    return program


def dockerfiles() -> str:
    """hadolint."""
    files = sorted((INFRA / "docker").glob("*.Dockerfile"))
    run(TOOLS / "hadolint", *files)
    return f"{len(files)} files by hadolint"


def yaml_files() -> str:
    """yamllint."""
    run(TOOLS / "yamllint", "--strict", "-c", INFRA / "yamllint.yml", INFRA)
    return "by yamllint"


def compose() -> str:
    """The schema of compose."""
    file = INFRA / "compose" / "compose.yaml"
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    return "compose.yaml by the schema of compose"


def compose_config() -> str:
    """As docker compose reads it."""
    docker = there("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        raise NotHere("docker has no compose plugin")
    for profile in ("cpu", "gpu", "fetch"):
        run(docker, "compose", "-f", INFRA / "compose" / "compose.yaml", "--profile", profile, "config", "--quiet")
    return "all profiles by docker compose"


def kubernetes() -> str:
    """kustomize renders it, and the schemas of Kubernetes take it."""
    kubectl = there("kubectl")
    n = foreign = 0
    for name in RENDERED:
        documents = list(yaml.safe_load_all(run(kubectl, "kustomize", INFRA / "kubernetes" / name)))
        native = [one for one in documents if one["kind"] not in FOREIGN]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.yaml"
            file.write_text(yaml.safe_dump_all(native))
            run(TOOLS / "kubernetes-validate", "--strict", "--quiet", "-k", KUBERNETES, file)
        n += len(native)
        foreign += len(documents) - len(native)
    return f"{n} objects by the schemas of {KUBERNETES}; {foreign} of KEDA and the Prometheus operator by no schema"


def alerts() -> str:
    """promtool reads the rules, and their tests hold."""
    program = promtool()
    run(program, "check", "rules", ALERTS)
    run(program, "test", "rules", INFRA / "prometheus" / "alerts_test.yml")
    run(program, "check", "config", "--syntax-only", INFRA / "compose" / "prometheus.yml")
    return f"rules, their tests, and prometheus.yml by {program.name}"


def rules() -> str:
    """Those of Kubernetes are the same."""
    if RULES.read_text() != operators(ALERTS.read_text()):
        raise Failed(f"{RULES.relative_to(ROOT)} is not what alerts.yml says: python infra/check.py --write")
    return "the operator's are those of alerts.yml"


def operators(text: str) -> str:
    """Rules as the Prometheus operator wants them."""
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "stenopool"},
        "spec": yaml.safe_load(text),
    }
    made = yaml.dump(head, Dumper=_Indented, sort_keys=False, width=110)
    return f"# Made by `python infra/check.py --write` from infra/prometheus/alerts.yml.\n{made}"


class _Indented(yaml.SafeDumper):
    """Lists are indented, as in our other files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)


def terraform() -> str:
    """Its own form."""
    run(there("terraform"), "fmt", "-check", "-recursive", INFRA / "terraform")
    return "the form of its files by terraform fmt"


def terraform_validate() -> str:
    """What its providers say."""
    program = there("terraform")
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(INFRA / "terraform", Path(folder) / "terraform")
        try:
            run(program, "init", "-backend=false", "-input=false", where=copy)
        except Failed:
            raise NotHere("terraform's providers cannot be fetched") from None
        run(program, "validate", where=copy)
    return "by its providers"


def images() -> str:
    """They are built."""
    docker = there("docker")
    if subprocess.run([docker, "info"], capture_output=True, check=False, timeout=60).returncode:
        raise NotHere("no docker daemon answers")
    for name in ("desk", "engine"):
        run(
            docker,
            "build",
            "-f",
            INFRA / "docker" / f"{name}.Dockerfile",
            "-t",
            f"stenopool-{name}:check",
            ".",
            where=ROOT,
        )
    return "both are built"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("dockerfiles", dockerfiles),
    ("yaml", yaml_files),
    ("compose", compose),
    ("compose config", compose_config),
    ("kubernetes", kubernetes),
    ("alerts", alerts),
    ("rules", rules),
    ("terraform", terraform),
    ("terraform validate", terraform_validate),
    ("images", images),
)


def main(*, write: bool) -> int:
    """Look; returns the status."""
    if write:
        RULES.write_text(operators(ALERTS.read_text()))
    status = 0
    for name, check in CHECKS:
        try:
            state, seen = "ok", check()
        except NotHere as error:
            state, seen = "not here", str(error)
        except Failed as error:
            state, seen, status = "failed", str(error), 1
        sys.stdout.write(f"{state:<9} {name:<19} {seen}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(write="--write" in sys.argv[1:]))
