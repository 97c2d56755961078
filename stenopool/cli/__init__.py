"""The command line: read arguments, call the library, print. Errors become one line here and nowhere else."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import click

from stenopool.cli import (
    admin,
    api,
    campaign,
    desk,
    farm,
    feed,
    hand_in,
    keeping,
    redact,
    search,
    training,
    watchlist,
    webhook,
)
from stenopool.cli.doctor import doctor
from stenopool.cli.evaluate import evaluate
from stenopool.cli.events import events
from stenopool.cli.models import models
from stenopool.cli.transcribe import transcribe
from stenopool.errors import StenopoolError, UsageError
from stenopool.logs import speaks_json
from stenopool.version import __version__

EXIT_CODES = """\b
Exit codes:
  0    all done
  1    something failed; the others are done
  2    the command itself was wrong
  3    all done, but a recording ended early, is damaged or has gaps
  130  stopped by Ctrl-C (143: by SIGTERM); the same command goes on from there
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, "-V", "--version", prog_name="stenopool")
def cli() -> None:
    """Archives of speech in, transcripts out, every second accounted for.

    \b
    Example:
      stenopool transcribe talk.mp3 -o out/ --format txt,srt
    """


cli.add_command(transcribe)
cli.add_command(evaluate)
cli.add_command(models)
cli.add_command(doctor)
cli.add_command(events)
_MANY = (hand_in, desk, farm, admin, api, feed, campaign, search, watchlist, redact, webhook, keeping, training)
for command in (command for module in _MANY for command in module.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """The `stenopool` command."""
    # An interrupt is raised, and kept as well: raised inside a library's callback, it is lost. That it was is nobody's
    # business: the work ends at its next turn.
    stop = threading.Event()
    code: object = 0

    def interrupt(number: int, _: object) -> None:
        nonlocal code
        stop.set()
        code = 128 + number
        raise KeyboardInterrupt

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if not (stop.is_set() and lost.exc_type is KeyboardInterrupt):
            sys.__unraisablehook__(lost)

    sys.unraisablehook = unraisable
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        code = cli.main(standalone_mode=False, obj=stop)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say("stopped; the same command goes on from here", logging.INFO)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StenopoolError as error:
        _say(str(error), logging.ERROR)
        code = 2 if isinstance(error, UsageError) else 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jax", "jaxlib", "flax"):
            raise
        _say("this needs JAX, which is not in this installation; call it where an engine runs", logging.ERROR)
        code = 1
    except BrokenPipeError:
        code = 1
        sys.stderr.close()  # whoever read our output has left: nothing more to say
    sys.exit(code if isinstance(code, int) else 0)


def _say(line: str, level: int) -> None:
    """Last words, in whichever form the others had."""
    if speaks_json():
        logging.getLogger("stenopool").log(level, "%s", line)
    else:
        click.echo(f"stenopool: {line}", err=True)
