"""The one reader of the environment. Everything below is handed a `Config` and reads nothing itself."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stenopool.errors import UsageError
from stenopool.logs import LogStyle


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, as the docs list it."""

    name: str
    default: str
    help: str


SETTINGS = (
    Setting("STENOPOOL_HOME", "~/.local/share/stenopool", "the ledger and the objects of this machine"),
    Setting("STENOPOOL_CACHE", "~/.cache/stenopool", "compiled programs; safe to delete at any time"),
    Setting("STENOPOOL_DATABASE", "", "a farm's ledger: postgresql://user:password@host/name"),
    Setting(
        "STENOPOOL_ADMIN_DATABASE",
        "",
        "a login to the farm's Postgres, or a replica, that only reads: for stenopool admin",
    ),
    Setting("STENOPOOL_BROKER", "", "a farm's Redis: redis://:password@host:6379/0"),
    Setting("STENOPOOL_DATABASE_FILE", "", "a file with what STENOPOOL_DATABASE is to be, where that is not set"),
    Setting("STENOPOOL_BROKER_FILE", "", "a file with what STENOPOOL_BROKER is to be, where that is not set"),
    Setting("STENOPOOL_STORE", "", "a farm's objects: s3://bucket/prefix?endpoint=https://host, or a shared folder"),
    Setting(
        "STENOPOOL_EXPORTS",
        "",
        "folders that all machines of a farm share, and buckets on other servers, to which transcripts may be sent",
    ),
    Setting("STENOPOOL_LEASE", "60", "seconds after which others do what a worker holds that gives no sign of life"),
    Setting("STENOPOOL_KEEP", "604800", "seconds that a farm keeps the file of what failed, so that it can be retried"),
    Setting("STENOPOOL_KEEP_SOUND", "604800", "seconds that a farm keeps the sound of what is done, to be listened to"),
    Setting("STENOPOOL_SPEECH_WAIT", "540", "seconds that a call of /v1/audio/transcriptions waits for its text"),
    Setting("STENOPOOL_MAX_GB", "100", "gigabytes that a file may have"),
    Setting("STENOPOOL_MAX_HOURS", "48", "hours that a file may last"),
    Setting("STENOPOOL_MAX_CHANNELS", "64", "channels that a file may have"),
    Setting("STENOPOOL_MAX_STALL", "600", "seconds that a decoder may fall behind real time before it is given up"),
    Setting(
        "STENOPOOL_FETCH_ALLOW", "", "networks of your own that sources may be fetched from: 10.1.0.0/16,fd12::/48"
    ),
    Setting("STENOPOOL_LOG", "text", "how the processes of a farm log: text, or json for an object a line"),
    Setting(
        "STENOPOOL_METRICS", "", "where a scheduler or a worker shows its metrics: a port of this machine, or host:port"
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "where workers send traces, by OTLP over HTTP: http://host:4318; needs stenopool[trace]",
    ),
    Setting("STENOPOOL_API_RATE", "100", "requests a second that the API answers of one key; 0 for any number"),
    Setting("STENOPOOL_API_ORIGINS", "", "other web sites whose pages may ask the API: https://app.example.org"),
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a file may be that is ingested."""

    #: Bytes.
    size: float = 100e9
    #: Of sound.
    seconds: float = 48 * 3600.0
    channels: float = 64.0
    #: Seconds that decoding may fall behind real time.
    stall: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the environment decides."""

    #: The ledger (`ledger.sqlite`) and the object store (`objects/`).
    home: Path
    #: The compile cache (`xla/`), and what was learnt about this machine.
    cache: Path
    #: Of a farm; None where there is none, or where `stenopool up` has made one on this machine.
    database: str | None = None
    #: As who may look and nothing else.
    admin_database: str | None = None
    broker: str | None = None
    store: str | None = None
    #: Folders, and buckets on other servers than the farm's, to which transcripts may be sent.
    exports: tuple[str, ...] = ()
    #: Seconds.
    lease: float = 60.0
    #: Seconds.
    keep: float = 604_800.0
    #: Seconds.
    keep_sound: float = 604_800.0
    #: Seconds.
    speech_wait: float = 540.0
    limits: Limits = field(default_factory=Limits)
    #: Networks that sources may be fetched from, besides the public internet.
    fetch_allow: tuple[Network, ...] = ()
    #: Host and port where a process shows its metrics; None for nowhere.
    metrics: tuple[str, int] | None = None
    #: How the processes of a farm log.
    log: LogStyle = "text"
    #: URL that traces are sent to, by OTLP over HTTP.
    traces: str | None = None
    #: Requests a second that the API answers of one key; 0 for any number.
    api_rate: float = 100.0
    #: Web sites whose pages may ask the API, besides its own.
    api_origins: tuple[str, ...] = ()

    @property
    def farm(self) -> Path:
        """What `stenopool up` keeps of the farm on this machine."""
        return self.home / "farm"

    @property
    def uploads(self) -> Path:
        """What the API is being sent."""
        return self.home / "uploads"

    @property
    def sizes(self) -> Path:
        """How many slots the device had room for, where it was full once."""
        return self.cache / "sizes.json"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read the settings; the XDG base directories are honoured where ours are not set.

        Raises:
            UsageError: a path begins with the home of a user who has none; a number is none, or is out of range; a
                file cannot be read.
        """
        env = os.environ if environ is None else environ
        data = _base(env.get("XDG_DATA_HOME"), "~/.local/share")
        cache = _base(env.get("XDG_CACHE_HOME"), "~/.cache")
        return cls(
            home=_path("STENOPOOL_HOME", env.get("STENOPOOL_HOME") or f"{data}/stenopool"),
            cache=_path("STENOPOOL_CACHE", env.get("STENOPOOL_CACHE") or f"{cache}/stenopool"),
            database=_secret(env, "STENOPOOL_DATABASE"),
            admin_database=env.get("STENOPOOL_ADMIN_DATABASE") or None,
            broker=_secret(env, "STENOPOOL_BROKER"),
            store=env.get("STENOPOOL_STORE") or None,
            exports=tuple(filter(None, map(str.strip, env.get("STENOPOOL_EXPORTS", "").split(",")))),
            lease=_number(env, "STENOPOOL_LEASE", 1, 86_400, "seconds, from 1 to a day"),
            keep=_number(env, "STENOPOOL_KEEP", 0, 36_500 * 86_400, "seconds, up to a century"),
            keep_sound=_number(env, "STENOPOOL_KEEP_SOUND", 0, 36_500 * 86_400, "seconds, up to a century"),
            speech_wait=_number(env, "STENOPOOL_SPEECH_WAIT", 1, 86_400, "seconds, from 1 to a day"),
            limits=_limits(env),
            fetch_allow=_networks(env, "STENOPOOL_FETCH_ALLOW"),
            log=_log_style(env),
            traces=env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
            metrics=address_of(env.get("STENOPOOL_METRICS") or None, "STENOPOOL_METRICS"),
            api_rate=_number(env, "STENOPOOL_API_RATE", 0, 1e6, "requests a second, a million at most"),
            api_origins=_origins(env, "STENOPOOL_API_ORIGINS"),
        )


def _log_style(env: Mapping[str, str]) -> LogStyle:
    match value := env.get("STENOPOOL_LOG") or _DEFAULTS["STENOPOOL_LOG"]:
        case "text" | "json":
            return value
    raise UsageError(f"STENOPOOL_LOG is {value!r}; set it to text or json")


def address_of(value: str | None, name: str) -> tuple[str, int] | None:
    """Host and port of "host:port", or of a port, which is then this machine's alone; None of None.

    Raises:
        UsageError: it is neither; `name` is what was set to it.
    """
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise UsageError(f"{name} is {value!r}; set it to a port such as 9464, or to host:port")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def compiler_flags() -> str:
    """What XLA was told through its own variables: compiled programs depend on it."""
    return " ".join(os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))


def _base(given: str | None, default: str) -> str:
    """A base directory; the XDG specification has relative ones ignored."""
    return given if given and Path(given).is_absolute() else default


def _limits(env: Mapping[str, str]) -> Limits:
    return Limits(
        size=_number(env, "STENOPOOL_MAX_GB", 1e-6, 1e6, "gigabytes, a million at most") * 1e9,
        seconds=_number(env, "STENOPOOL_MAX_HOURS", 1e-3, 1e5, "hours, from 0.001 to 100000") * 3600,
        # FFmpeg decodes no more.
        channels=_number(env, "STENOPOOL_MAX_CHANNELS", 1, 512, "a number from 1 to 512"),
        stall=_number(env, "STENOPOOL_MAX_STALL", 1, 86_400, "seconds, from 1 to a day"),
    )


def _networks(env: Mapping[str, str], name: str) -> tuple[Network, ...]:
    value = env.get(name) or _DEFAULTS[name]
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in value.split(",") if one.strip())
    except ValueError as error:
        raise UsageError(f"{name}: {error}; set it to networks such as 10.1.0.0/16,192.168.7.5") from None


def _secret(env: Mapping[str, str], name: str) -> str | None:
    """A setting with a password in it: as it is set, or what is in the file that the other one names."""
    if (value := env.get(name)) or not (file := env.get(f"{name}_FILE")):
        return value or None
    try:
        return Path(file).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise UsageError(f"{file}: cannot be read ({reason}); set {name}_FILE to another file") from None


def _origins(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    origins = tuple(filter(None, map(str.strip, env.get(name, "").split(","))))
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s*@?#]+", origin):
            raise UsageError(
                f"{name}: {origin!r} is no origin; set it to such as https://app.example.org,http://host:3000"
            )
    return origins


def _number(env: Mapping[str, str], name: str, least: float, most: float, wanted: str) -> float:
    value = env.get(name) or _DEFAULTS[name]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise UsageError(f"{name} is {value!r}; set it to {wanted}")
    return number


def _path(name: str, value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # in a container with a user that no passwd file knows
        raise UsageError(f"{value}: there is no such home directory; set {name} to an absolute path") from error
