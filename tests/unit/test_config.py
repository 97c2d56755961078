"""The environment: our settings, and what stands in where they are not set."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from stenopool.config import SETTINGS, Config, Limits
from stenopool.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of this user, and none of our settings."""
    for name in (*(setting.name for setting in SETTINGS), "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_defaults_are_those_of_the_table(home: Path) -> None:
    """What the documentation lists is what happens."""
    paths = [setting for setting in SETTINGS if setting.default.startswith("~")]
    defaults = {setting.name: Path(setting.default).expanduser() for setting in paths}
    assert {setting.name: setting.default for setting in SETTINGS if setting not in paths} == {
        "STENOPOOL_DATABASE": "",
        "STENOPOOL_ADMIN_DATABASE": "",
        "STENOPOOL_BROKER": "",
        "STENOPOOL_DATABASE_FILE": "",
        "STENOPOOL_BROKER_FILE": "",
        "STENOPOOL_STORE": "",
        "STENOPOOL_EXPORTS": "",
        "STENOPOOL_LEASE": "60",
        "STENOPOOL_KEEP": "604800",
        "STENOPOOL_KEEP_SOUND": "604800",
        "STENOPOOL_SPEECH_WAIT": "540",
        "STENOPOOL_MAX_GB": "100",
        "STENOPOOL_MAX_HOURS": "48",
        "STENOPOOL_MAX_CHANNELS": "64",
        "STENOPOOL_MAX_STALL": "600",
        "STENOPOOL_FETCH_ALLOW": "",
        "STENOPOOL_LOG": "text",
        "STENOPOOL_METRICS": "",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "STENOPOOL_API_RATE": "100",
        "STENOPOOL_API_ORIGINS": "",
    }

    assert defaults == {
        "STENOPOOL_HOME": home / ".local/share/stenopool",
        "STENOPOOL_CACHE": home / ".cache/stenopool",
    }
    assert Config.from_env({}) == Config(home=defaults["STENOPOOL_HOME"], cache=defaults["STENOPOOL_CACHE"])


def test_each_setting_has_its_field() -> None:
    """The settings are taken as they are, over the base directories."""
    env = {
        "STENOPOOL_HOME": "/a",
        "STENOPOOL_CACHE": "/b",
        "XDG_DATA_HOME": "/c",
        "XDG_CACHE_HOME": "/d",
        "STENOPOOL_DATABASE": "postgresql://e",
        "STENOPOOL_ADMIN_DATABASE": "postgresql://k",
        "STENOPOOL_BROKER": "redis://f",
        "STENOPOOL_DATABASE_FILE": "/not/read",
        "STENOPOOL_BROKER_FILE": "/not/read",
        "STENOPOOL_STORE": "s3://g",
        "STENOPOOL_EXPORTS": "/h, s3://i?endpoint=https://j,",
        "STENOPOOL_LEASE": "5",
        "STENOPOOL_KEEP": "3600",
        "STENOPOOL_KEEP_SOUND": "7200",
        "STENOPOOL_SPEECH_WAIT": "60",
        "STENOPOOL_MAX_GB": "0.5",
        "STENOPOOL_MAX_HOURS": "2",
        "STENOPOOL_MAX_CHANNELS": "8",
        "STENOPOOL_MAX_STALL": "30",
        "STENOPOOL_FETCH_ALLOW": "10.1.0.0/16, fd12::/48,192.168.7.5",
        "STENOPOOL_LOG": "json",
        "STENOPOOL_METRICS": "[::1]:9464",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://k:4318",
        "STENOPOOL_API_RATE": "7.5",
        "STENOPOOL_API_ORIGINS": "https://app.example.org, http://localhost:3000",
    }
    assert set(env) - {"XDG_DATA_HOME", "XDG_CACHE_HOME"} == {setting.name for setting in SETTINGS}
    assert Config.from_env(env) == Config(
        home=Path("/a"),
        cache=Path("/b"),
        database="postgresql://e",
        admin_database="postgresql://k",
        broker="redis://f",
        store="s3://g",
        exports=("/h", "s3://i?endpoint=https://j"),
        lease=5.0,
        keep=3600.0,
        keep_sound=7200.0,
        speech_wait=60.0,
        limits=Limits(size=5e8, seconds=7200.0, channels=8, stall=30.0),
        fetch_allow=tuple(map(ip_network, ("10.1.0.0/16", "fd12::/48", "192.168.7.5"))),
        log="json",
        traces="http://k:4318",
        metrics=("::1", 9464),
        api_rate=7.5,
        api_origins=("https://app.example.org", "http://localhost:3000"),
    )


def test_the_base_directories_are_honoured() -> None:
    """Our folder is below them."""
    env = {"XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "/cache"}

    assert Config.from_env(env) == Config(home=Path("/data/stenopool"), cache=Path("/cache/stenopool"))


@pytest.mark.parametrize("value", ["", "relative", "./relative", "~/data"])
def test_base_directories_that_are_not_absolute_are_ignored(value: str) -> None:
    """As their specification has it; an empty one counts as not set."""
    assert Config.from_env({"XDG_DATA_HOME": value, "XDG_CACHE_HOME": value}) == Config.from_env({})


def test_empty_settings_count_as_not_set() -> None:
    """`STENOPOOL_HOME= stenopool ...` is not the current folder."""
    assert Config.from_env({"STENOPOOL_HOME": "", "STENOPOOL_CACHE": ""}) == Config.from_env({})


def test_a_tilde_is_the_home(home: Path) -> None:
    """Also where no shell has replaced it: in a unit file, say."""
    config = Config.from_env({"STENOPOOL_HOME": "~/pool", "STENOPOOL_CACHE": "~"})

    assert config == Config(home=home / "pool", cache=home)


def test_the_environment_itself_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is given."""
    monkeypatch.setenv("STENOPOOL_HOME", "/pool")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")

    assert Config.from_env() == Config(home=Path("/pool"), cache=Path("/cache/stenopool"))


@pytest.mark.parametrize("name", ["STENOPOOL_HOME", "STENOPOOL_CACHE"])
def test_the_home_of_nobody(name: str) -> None:
    """A user that no passwd file knows has no home: one line says which setting to set."""
    with pytest.raises(UsageError) as error:
        Config.from_env({name: "~no-such-user/pool"})

    assert str(error.value) == (f"~no-such-user/pool: there is no such home directory; set {name} to an absolute path")


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan", "1e9"])
def test_a_lease_that_is_none_is_refused(value: str) -> None:
    """In a line that says what it takes."""
    with pytest.raises(UsageError, match=rf"^STENOPOOL_LEASE is '{value}'; set it to seconds, from 1 to a day$"):
        Config.from_env({"STENOPOOL_LEASE": value})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("STENOPOOL_MAX_GB", "0", "gigabytes, a million at most"),
        ("STENOPOOL_MAX_HOURS", "a day", "hours, from 0.001 to 100000"),
        ("STENOPOOL_MAX_CHANNELS", "1000", "a number from 1 to 512"),
        ("STENOPOOL_MAX_STALL", "inf", "seconds, from 1 to a day"),
        ("STENOPOOL_LOG", "JSON lines", "text or json"),
    ],
)
def test_a_limit_that_is_none_is_refused(name: str, value: str, wanted: str) -> None:
    """As a lease."""
    with pytest.raises(UsageError, match=f"^{name} is '{value}'; set it to {wanted}$"):
        Config.from_env({name: value})


@pytest.mark.parametrize("value", ["my network", "10.1.2.3/16", "10.0.0.0/8 192.168.0.0/16"])
def test_networks_that_are_none_are_refused(value: str) -> None:
    """Also one whose address is not its first: which network was meant?"""
    with pytest.raises(UsageError, match=r"^STENOPOOL_FETCH_ALLOW: .*; set it to networks such as 10.1.0.0/16,192.16"):
        Config.from_env({"STENOPOOL_FETCH_ALLOW": value})


def test_passwords_are_read_from_files(tmp_path: Path) -> None:
    """Whatever ends their line; what is set itself goes before them."""
    (tmp_path / "database").write_text("postgresql://of-the-file\n")
    env = {"STENOPOOL_DATABASE_FILE": f"{tmp_path}/database"}

    assert Config.from_env(env).database == "postgresql://of-the-file"
    assert Config.from_env(env | {"STENOPOOL_DATABASE": "postgresql://set"}).database == "postgresql://set"


def test_a_file_of_a_password_that_is_not_there() -> None:
    """Is said to be missing, and who named it."""
    line = r"^/nowhere: cannot be read \(No such file or directory\); set STENOPOOL_BROKER_FILE to another file$"
    with pytest.raises(UsageError, match=line):
        Config.from_env({"STENOPOOL_BROKER_FILE": "/nowhere"})


def test_a_port_alone_is_this_machines() -> None:
    """Nobody else sees what nobody was asked about."""
    assert Config.from_env({"STENOPOOL_METRICS": "9464"}).metrics == ("127.0.0.1", 9464)


@pytest.mark.parametrize("value", ["here", "0", "host:", "70000", "http://host"])
def test_an_address_that_is_none_is_refused(value: str) -> None:
    """In a line that says what it takes."""
    with pytest.raises(
        UsageError, match=rf"^STENOPOOL_METRICS is '{value}'; set it to a port such as 9464, or to host"
    ):
        Config.from_env({"STENOPOOL_METRICS": value})


@pytest.mark.parametrize("value", ["*", "app.example.org", "https://app.example.org/", "https://a b"])
def test_an_origin_that_is_none_is_refused(value: str) -> None:
    """Also one that would be everybody."""
    with pytest.raises(UsageError, match=r"^STENOPOOL_API_ORIGINS: .* is no origin; set it to such as https://app.ex"):
        Config.from_env({"STENOPOOL_API_ORIGINS": value})
