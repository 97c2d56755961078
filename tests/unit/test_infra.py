"""What infra/ says of the program is so: settings, commands, metrics, ports; and what is promised of its containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from sqlalchemy import create_engine, make_url, text

from stenopool.cli import cli
from stenopool.config import SETTINGS
from stenopool.doctor.findings import fine
from stenopool.doctor.machine import look_at_device, look_at_model
from stenopool.web import site
from storage.database import open_database
from storage.figures import Figures
from storage.folder import FolderStore
from tests.farms import HandFarm
from tests.servers import ask
from workers.lifecycle import HUNG_AFTER
from workers.metric_table import METRICS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Of ours, those that run all the time.
OURS = ("api", "scheduler", "stages", "engine", "engine-gpu")
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((INFRA / "kubernetes" / "base").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]
PODS = {
    f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"]["spec"]
    for one in MANIFESTS
    if one["kind"] in ("Deployment", "Job")
}
ALERTS = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
#: Of other exporters, which the docs name.
FOREIGN = {
    "DCGM_FI_DEV_GPU_UTIL",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
    "process_resident_memory_bytes",
}


def texts() -> Iterator[str]:
    """All files of infra/ that people write."""
    for path in INFRA.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".yml", ".json", ".sh", ".Dockerfile", ".tf"}:
            yield path.read_text()


def test_every_setting_is_one() -> None:
    """Each that is named; whatever else stands there would be ignored in silence."""
    named = {name for one in texts() for name in re.findall(r"\bSTENOPOOL_[A-Z_]+\b", one)}

    assert named <= {setting.name for setting in SETTINGS}
    assert {"STENOPOOL_DATABASE_FILE", "STENOPOOL_BROKER_FILE", "STENOPOOL_STORE", "STENOPOOL_METRICS"} <= named


def commands() -> Iterator[list[str]]:
    """All that is called."""
    for service in SERVICES.values():
        if "entrypoint" not in service and str(service.get("image", "")).startswith("stenopool"):
            yield service["command"]
    for pod in PODS.values():
        yield from (container["args"] for container in pod["containers"])
    kustomization = (INFRA / "kubernetes" / "example" / "kustomization.yaml").read_text()
    for patch in yaml.safe_load(kustomization)["patches"]:
        yield from (one["value"] for one in yaml.safe_load(patch["patch"]) if one["path"].endswith("/args"))


@pytest.mark.parametrize("words", sorted(set(map(tuple, commands()))), ids=" ".join)
def test_every_command_is_one(words: tuple[str, ...]) -> None:
    """With its options, as the command itself reads them."""
    command: click.Command = cli
    name, rest = "stenopool", [word.replace("${MODEL:-pocket}", "pocket") for word in words]
    while isinstance(command, click.Group):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest)


def names_in(expression: str) -> set[str]:
    """Metrics of an expression of PromQL."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|group_left|without)\s*\([^)]*\)', " ", expression)
    words = set(re.findall(r"\b[A-Za-z_][A-Za-z0-9_]*\b(?!\s*\()", bare))
    return {word for word in words if "_" in word and not word.startswith("group_")}


def is_a_metric(name: str) -> bool:
    """Whether a process shows it."""
    shown = {
        f"{metric.name}{ending}"
        for metric in METRICS
        for ending in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
    }
    return name in shown | FOREIGN


def expressions() -> dict[str, str]:
    """By where they stand."""
    found = {rule["alert"]: rule["expr"] for rule in ALERTS}
    dashboard = json.loads((INFRA / "grafana" / "stenopool.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_every_metric_is_one() -> None:
    """In alerts, their tests and the dashboard."""
    found = {where: names_in(expression) for where, expression in expressions().items()}
    tests = yaml.safe_load((INFRA / "prometheus" / "alerts_test.yml").read_text())["tests"]
    found |= {one["series"]: {one["series"].partition("{")[0]} for test in tests for one in test["input_series"]}

    assert len(found) > 60
    assert {where: names for where, names in found.items() if not names} == {}
    assert {name for names in found.values() for name in names if not is_a_metric(name)} == set()


def test_every_alert_has_its_page() -> None:
    """In the runbook, and a test in which it fires."""
    operations = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (Stenopool\w+)$", operations, re.MULTILINE)
    fired = (INFRA / "prometheus" / "alerts_test.yml").read_text()

    assert headings == [rule["alert"] for rule in ALERTS]
    assert [rule["alert"] for rule in ALERTS if f'alertname="{rule["alert"]}"' not in fired] == []
    assert {rule["annotations"]["runbook"] for rule in ALERTS} == {
        f"docs/operations.md#{name.lower()}" for name in headings
    }


def test_the_operators_rules_are_the_same() -> None:
    """As Prometheus' own."""
    rules = yaml.safe_load((INFRA / "kubernetes" / "monitoring" / "rules.yaml").read_text())

    assert rules["spec"]["groups"][0]["rules"] == ALERTS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_kept_small(name: str) -> None:
    """No root that could gain anything, no memory without end, nothing to write on, and no password but from a file."""
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    passwords = [key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN", key)]
    assert all(key.endswith("_FILE") for key in passwords)
    if name not in ("bucket", "migrate", "model"):  # these end
        assert service["healthcheck"]["test"]
        assert service["stop_grace_period"]
    if name in OURS:
        assert service["user"] == "10001:10001"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_engines_may_end_what_they_have_begun() -> None:
    """Until a device that hangs is known to hang."""
    for name in ("engine", "engine-gpu"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > HUNG_AFTER
    assert PODS["Deployment/engine"]["terminationGracePeriodSeconds"] > HUNG_AFTER


def test_engines_reach_no_internet() -> None:
    """Nor does anybody who does not need it."""
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert [name for name, one in SERVICES.items() if "out" in one["networks"]] == ["scheduler", "stages", "model"]
    [internet] = [one for one in MANIFESTS if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "internet"]
    [who] = internet["spec"]["podSelector"]["matchExpressions"]
    assert who["values"] == ["stages", "scheduler", "model"]
    assert "169.254.0.0/16" in internet["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_kept_small(name: str) -> None:
    """As compose's."""
    pod = PODS[name]
    [container] = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    if name.startswith("Deployment"):
        assert {"startupProbe", "livenessProbe"} <= container.keys()
        assert name.partition("/")[2] in {
            one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "PodDisruptionBudget"
        }


def test_the_api_has_a_folder_for_what_it_is_sent() -> None:
    """Which its image's home is; all else of it is read-only. Whoever serves one farm shares it."""
    home = "/var/lib/stenopool"
    assert f"STENOPOOL_HOME={home}" in (INFRA / "docker" / "desk.Dockerfile").read_text()
    assert f"uploads:{home}" in SERVICES["api"]["volumes"]
    pod = PODS["Deployment/api"]
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["mountPath"] == home]
    [volume] = [one for one in pod["volumes"] if one["name"] == mount["name"]]
    [claim] = [
        one
        for one in MANIFESTS
        if one["kind"] == "PersistentVolumeClaim"
        and one["metadata"]["name"] == volume["persistentVolumeClaim"]["claimName"]
    ]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_every_volume_of_compose_is_one() -> None:
    """What is mounted is named below, and what is named is mounted."""
    named = {mount.partition(":")[0] for one in SERVICES.values() for mount in one.get("volumes", ())}

    assert {name for name in named if not name.startswith(".")} == COMPOSE["volumes"].keys()


def test_postgres_is_there_when_it_is_reached_from_elsewhere() -> None:
    """By its socket a server answers, too, that is only there while the database is being made."""
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """All that compose reads; a second time changes none, and no two are alike."""
    script = tmp_path / "make-secrets.sh"
    script.write_text((INFRA / "compose" / "make-secrets.sh").read_text())
    runs = []
    for _ in range(2):
        subprocess.run(["sh", script], check=True, capture_output=True)
        runs.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})

    assert runs[0] == runs[1]
    assert set(runs[0]) == {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    random = [runs[0][name] for name in ("database_password", "s3_password", "grafana_password")]
    random.append(runs[0]["redis_conf"].removeprefix("requirepass ").strip())
    assert len({*random}) == 4
    assert all(len(one) == 48 for one in random)
    assert make_url(runs[0]["database_url"].strip()).password == random[0]
    assert random[3] in runs[0]["broker_url"]
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def documents(path: Path) -> list[dict[str, Any]]:
    """Of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def test_engines_are_as_many_as_there_is_sound(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What KEDA asks is answered, to a role that may see no more than is said there, and is what the metrics say."""
    scaling = INFRA / "kubernetes" / "keda" / "scaling.yaml"
    queries = {
        (one["metadata"]["name"], place): trigger["metadata"]["query"]
        for one in documents(scaling)
        if one["kind"] == "ScaledObject"
        for place, trigger in enumerate(one["spec"]["triggers"])
    }
    assert len(queries) == 3
    farm = HandFarm(open_database(ledger_url), FolderStore(tmp_path / "objects"), tmp_path, monkeypatch)
    farm.submit(6)
    farm.submit(6)
    farm.farm.desk.pause(farm.submit(6).id)
    grants = [line.removeprefix("#   ") for line in scaling.read_text().splitlines() if line.startswith("#   ")]
    for grant in grants:
        ask(ledger_url, grant)
    asking = make_url(ledger_url).set(username="scaling", password="...")
    engine = create_engine(asking)

    def asked() -> dict[tuple[str, int], float]:
        with engine.connect() as connection:
            return {name: float(connection.scalar(text(query))) for name, query in queries.items()}

    try:
        assert asked() == {("engine", 0): 0, ("engine", 1): 2, ("stages", 0): 2}
        farm.ingest()
        farm.admit()
        farm.finish(farm.claim(1))
        assert asked() == {("engine", 0): 10, ("engine", 1): 0, ("stages", 0): 0}
        assert sum(Figures(farm.farm.database).now().open_audio.values()) == 10
    finally:
        engine.dispose()
        ask(ledger_url, "DROP OWNED BY scaling")
        ask(ledger_url, "DROP ROLE scaling")
        farm.stages.close()
        farm.farm.close()


def test_the_images_install_what_is_pinned() -> None:
    """The desk's all but JAX, in the versions of the others; CUDA that of JAX."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    desk = [line for line in (INFRA / "docker" / "desk.in").read_text().splitlines() if not line.startswith("#")]
    assert desk == [one for one in project if re.split(r"[\[>=]", one)[0] not in ("jax", "jaxlib", "flax")]

    pins = {name: _pins(path) for name, path in {"all": ROOT / "requirements.lock"}.items()}
    for name in ("desk", "cuda"):
        pins[name] = _pins(INFRA / "docker" / f"{name}.lock")
        both = pins[name].keys() & pins["all"].keys()
        assert {one: pins[name][one] for one in both} == {one: pins["all"][one] for one in both}
    assert not {"jax", "jaxlib", "flax"} & pins["desk"].keys()
    assert pins["cuda"]["jax"] == pins["all"]["jax"]
    for name, locks in {"desk": ["desk.lock"], "engine": ["requirements.lock", "cuda.lock"]}.items():
        dockerfile = (INFRA / "docker" / f"{name}.Dockerfile").read_text()
        installed = re.findall(r"pip install --require-hashes --only-binary=:all: -r (\S+)$", dockerfile, re.MULTILINE)
        assert installed == locks
        assert dockerfile.count("pip install") == len(locks) + 1  # and ourselves, without asking for anything
        assert "pip install --no-deps --no-build-isolation ." in dockerfile
        # Another index, with its password, is there while it is asked, and in no layer.
        assert dockerfile.count("RUN --mount=type=secret,id=pip,target=/etc/pip.conf \\\n") == len(locks)
        assert not re.search(r"PIP_\w*(INDEX|LINKS|CERT)", dockerfile)
        # A frontend would be fetched from Docker's registry at each build, for nothing: BuildKit has one.
        assert "syntax=" not in dockerfile
        assert "USER 10001:10001" in dockerfile


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,]+\])?==([^ ;\\]+)", path.read_text(), re.MULTILINE))


def test_whoever_needs_no_device_does_without_jax() -> None:
    """Every process of the desk's image is imported where there is none."""
    program = """
import importlib, sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuses())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    modules = ["stenopool.cli.farm", "scheduler.dispatch", "models.device"]
    modules += [
        f"workers.{name}" for name in ("tasks", "stages", "lifecycle", "collect", "webhooks", "metrics", "farm")
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["models", "list"], ["models", "verify", "pocket"]], ids=" ".join)
def test_what_needs_jax_says_so(words: list[str]) -> None:
    """In a line, where there is none."""
    program = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuses())
from stenopool.cli import main

main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    said = "stenopool: this needs JAX, which is not in this installation; call it where an engine runs\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_the_doctor_does_not_miss_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where engines run elsewhere."""
    monkeypatch.setattr("stenopool.doctor.machine.has_jax", lambda: False)

    assert look_at_device(1, elsewhere=True) == fine("no JAX in this installation: engines run elsewhere")
    assert look_at_model("pocket") == fine("pocket: 13 MB, 2608 tokens, 99 languages")


def test_each_process_of_the_api_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the one does that began it, which hands it nothing but its environment."""
    monkeypatch.setenv("STENOPOOL_LOG", "json")
    styles: list[str] = []
    monkeypatch.setattr(site, "set_up", styles.append)
    monkeypatch.setattr(site, "process_is", lambda **_: None)
    monkeypatch.setattr(site, "make_site", lambda *_: None)
    monkeypatch.setattr("workers.farm.Farm.find", lambda _: None)
    site.from_env()

    assert styles == ["json"]
