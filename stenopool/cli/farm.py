"""The farm on the command line: the whole of it on this machine, or its processes one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stenopool.cli.loading import loading_options, taken_loading
from stenopool.config import Config, address_of
from stenopool.domain import DTYPES
from stenopool.errors import UsageError
from stenopool.logs import set_up
from stenopool.tracing import tracing

if TYPE_CHECKING:
    import threading

    from stenopool.local_farm import LocalFarm

#: Seconds in which a farm must have begun to work: a large model is loaded and compiled.
STARTS_WITHIN = 900.0

ENGINE, STAGES = "engine", ("ingest", "merge", "publish")

METRICS = click.option(
    "--metrics", metavar="[HOST:]PORT", help="Show metrics there, at /metrics.  [default: STENOPOOL_METRICS]"
)
#: Of the processes that `stenopool up` starts.
SUPERVISED = click.option("--supervised", is_flag=True, hidden=True, help="End when standard input does.")


@click.command()
@click.option("-m", "--model", default="pocket", show_default=True, help="As of transcribe.")
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True, help="Precision.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes with an engine.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of API and page.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Theirs; 0: any free one.  [default: 8321, or if taken any free one]"
)
@click.option("--store", metavar="URL", help="s3://bucket/prefix?endpoint=...  [default: a folder below the home]")
@click.option("--detach", is_flag=True, help="Return when it is ready; stenopool down ends it.")
@click.option("--json", "as_json", is_flag=True, help="Print where it is as JSON.")
@click.pass_context
def up(context: click.Context, /, *, detach: bool, as_json: bool, **layout: Any) -> None:
    """Run a whole farm on this machine: Redis, Postgres, a scheduler and workers; Ctrl-C ends all of it.

    Started again it goes on where it was. What it keeps is below STENOPOOL_HOME.

    \b
    Example:
      stenopool up --workers 2
      stenopool submit talk.mp3 --wait        (in another terminal)
    """
    from stenopool.local_farm import Layout, LocalFarm

    config = Config.from_env()
    if detach:
        _detach(config, as_json=as_json)
        return
    with LocalFarm(config, Layout(**layout)) as farm:
        farm.ready(STARTS_WITHIN, context.obj)
        _write_state(config, farm)
        try:
            _say_ready(config, as_json=as_json)
            _watch(farm, config, context.obj)
        finally:
            _state_file(config).unlink(missing_ok=True)


def _watch(farm: LocalFarm, config: Config, stop: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    from stenopool.cli.screen import Screen

    console = Console(highlight=False)
    screen = Screen(farm)
    try:
        if not console.is_terminal:
            while not stop.wait(1.0):
                farm.watch()
                _write_state(config, farm)
            return
        with Live(screen.draw(), console=console, auto_refresh=False, transient=True) as live:
            while not stop.wait(1.0):
                farm.watch()
                _write_state(config, farm)
                live.update(screen.draw(), refresh=True)
    finally:
        screen.close()


def _state_file(config: Config) -> Path:
    """Its main process, and the others by role."""
    return config.farm / "state.json"


def _write_state(config: Config, farm: LocalFarm) -> None:
    from stenopool.local_farm import pids
    from workers.publish import write_atomically

    about = {"url": farm.url, "key": farm.key}
    state = {"pid": os.getpid(), "processes": pids(farm.members), **about}
    text = json.dumps(state).encode()
    file = _state_file(config)
    if not file.is_file() or file.read_bytes() != text:
        write_atomically(file, text, mode=0o600)


def _say_ready(config: Config, *, as_json: bool) -> None:
    from workers.farm import places_file

    state = json.loads(_state_file(config).read_text())
    places = json.loads(places_file(config).read_text())
    link = f"{state['url']}/sign-in#link={_link(config, state['key'])}"
    if as_json:
        click.echo(json.dumps(places | state | {"link": link}, indent=2))
        return
    click.echo(f"the farm is ready: {sum(map(len, state['processes'].values()))} processes, all in {config.farm}")
    click.echo(f"its page and its API are at {state['url']}")
    click.echo(f"their key is {state['key']}; signs in once, within an hour: {link}")
    click.echo("hand something in with: stenopool submit FILE --wait")


def _link(config: Config, key: str) -> str:
    """A token that signs in on the page, in the place of the key."""
    from storage.access import Access
    from storage.sessions import Sessions
    from workers.farm import Farm

    farm = Farm.find(config)
    try:
        found = Access(farm.database).key_of(key)
        return "" if found is None else Sessions(farm.database).link(found)
    finally:
        farm.close()


def _detach(config: Config, *, as_json: bool) -> None:
    """Start the same command in a session of its own, and wait until it is ready."""
    from workers.farm import places_file

    if _running(config) is not None:
        raise UsageError(f"{config.farm}: a farm runs there already; end it with: stenopool down")
    config.farm.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "--json")]
    log = config.farm / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "stenopool", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not (_state_file(config).is_file() and places_file(config).is_file() and _running(config) == process.pid):
            if process.poll() is not None:
                said = log.read_text(errors="replace").strip().splitlines()
                raise UsageError((said[-1] if said else "the farm has ended").removeprefix("stenopool: "))
            time.sleep(0.1)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    _say_ready(config, as_json=as_json)


def _running(config: Config) -> int | None:
    """The main process of the farm on this machine; None where none runs."""
    try:
        pid = int(json.loads(_state_file(config).read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return None
    return pid


@click.command()
def down() -> None:
    """End the farm that runs on this machine; what it has is kept, and it goes on when it is started again.

    \b
    Example:
      stenopool down
    """
    config = Config.from_env()
    pid = _running(config)
    if pid is None:
        raise UsageError(f"no farm runs in {config.farm}")
    os.kill(pid, signal.SIGTERM)
    while _alive(pid):
        time.sleep(0.1)
    click.echo("the farm has ended")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()  # ended, and its parent has not looked yet
    except FileNotFoundError:  # no /proc here
        return True
    except OSError:
        return False


@click.command(no_args_is_help=True)
@click.option(
    "--role",
    "roles",
    type=click.Choice([ENGINE, *STAGES]),
    multiple=True,
    required=True,
    help="What it does; all but engine may be given together.",
)
@METRICS
@SUPERVISED
@loading_options
def worker(roles: tuple[str, ...], metrics: str | None, supervised: bool, **arguments: Any) -> None:
    """Be a worker of a farm, until a signal ends it: SIGTERM ends what is begun, a second one gives it back.

    The farm is that of STENOPOOL_DATABASE, STENOPOOL_BROKER and STENOPOOL_STORE. The model is an engine's.

    \b
    Example:
      stenopool worker --role engine --model openai/whisper-large-v3-turbo
    """
    from models.device import use_compile_cache
    from workers.farm import Farm
    from workers.tasks import run_engine, run_stages

    if ENGINE in roles and len(roles) > 1:
        raise UsageError("an engine has its process for itself: leave the other roles to another worker")
    supervise(supervised)
    loading = taken_loading(arguments)
    config = Config.from_env()
    at = address_of(metrics, "--metrics") or config.metrics
    farm = Farm.find(config)
    try:
        with tracing(config.traces, "+".join(roles)):
            if ENGINE in roles:
                use_compile_cache(config.cache / "xla")
                code = run_engine(farm, loading.engine, metrics=at)
            else:
                code = run_stages(
                    farm,
                    roles,
                    config.limits,
                    allowed=config.fetch_allow,
                    exports=config.exports,
                    sound=config.keep_sound,
                    metrics=at,
                )
    finally:
        farm.close()
    click.get_current_context().exit(code)


@click.command()
@METRICS
@SUPERVISED
@click.pass_context
def scheduler(context: click.Context, metrics: str | None, supervised: bool) -> None:
    """Be the scheduler of a farm, until a signal ends it. Where there are several, one of them leads.

    \b
    Example:
      stenopool scheduler
    """
    from scheduler.dispatch import Dispatcher
    from workers.addresses import may_ask
    from workers.collect import collecting
    from workers.farm import Farm
    from workers.lifecycle import alive, new_worker
    from workers.metrics import LedgerMetrics, SchedulerMetrics, shown
    from workers.post import Post
    from workers.webhooks import delivering

    supervise(supervised)
    config = Config.from_env()
    at = address_of(metrics, "--metrics") or config.metrics
    farm = Farm.find(config)
    try:
        with (
            alive(farm, new_worker("scheduler")) as begin,
            collecting(farm, keep=config.keep, sound=config.keep_sound),
            delivering(farm.database, Post(partial(may_ask, allowed=config.fetch_allow))),
        ):
            dispatcher = Dispatcher(farm.database, farm.broker, lease=farm.lease)
            counted = SchedulerMetrics(farm, dispatcher.done).begin()
            with shown(at, "scheduler", LedgerMetrics(farm), counted):
                begin()
                dispatcher.run(context.obj)
    finally:
        farm.close()


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done; unfinished uploads are not looked at.")
def collect(dry_run: bool) -> None:
    """Remove from the object store what nobody needs any more, and put back what is missing.

    The scheduler does the same all the time. What was put within the last hour is left alone.

    \b
    Example:
      stenopool collect --dry-run
    """
    from workers.collect import Collector
    from workers.farm import Farm

    config = Config.from_env()
    farm = Farm.find(config)
    done: Counter[str] = Counter()
    size = 0
    try:
        for one in Collector(farm, keep=config.keep, sound=config.keep_sound, dry=dry_run).round():
            click.echo(f"{one.what}\t{one.which}")
            done[one.what] += 1
            size += one.size
    finally:
        farm.close()
    would = "would be " if dry_run else ""
    counts = ", ".join(f"{n} {would}{what}" for what, n in sorted(done.items()))
    freed = f" ({size / 1e6:.1f} MB)" if size else ""
    click.echo(f"{counts}{freed}" if counts else "nothing is to be done")


@click.command()
def migrate() -> None:
    """Make a farm's ledger, or bring it up to this release's schema.

    \b
    Example:
      STENOPOOL_DATABASE=postgresql://... stenopool migrate
    """
    from storage.database import make_or_migrate
    from workers.farm import find_farm

    steps = make_or_migrate(find_farm(Config.from_env()).database)
    click.echo(f"went through {', '.join(steps)}" if steps else "it is up to date")


def supervise(supervised: bool) -> None:
    """Log as a process of a farm does; end with whoever started it, if he is to be outlived by nobody."""
    set_up(Config.from_env().log)
    if supervised:
        from stenopool.local_farm import end_with_parent

        end_with_parent()


COMMANDS: tuple[click.Command, ...] = (up, down, worker, scheduler, collect, migrate)
