"""The guard: a process that starts one server, and ends it when its own parent is gone. Run as a script, by its path.

The parent holds the other end of its standard input. Closed, because the server is no longer wanted or because the
parent was killed, the guard stops the server. That the parent is another one than it was says the same, where a forked
copy of the parent still holds the pipe. A guard that is itself killed takes its server along on Linux, where the system
can be asked for that; elsewhere the server then stays until it is ended by hand.

It knows nothing of Stenopool, so that it starts in a moment.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

LOOK_EVERY = 1.0  # seconds between two looks who the parent is; everything else is told at once
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _ends_with_us(stop: int) -> Callable[[], None] | None:
    """What a child calls before it becomes the server: so that it is sent `stop` when this process ends."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, guard = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        # It counts from now on only.
        if prctl(PR_SET_PDEATHSIG, stop) != 0 or os.getppid() != guard:
            os._exit(1)

    return ask


def main(order: dict[str, Any]) -> int:
    """Run a command as ordered; writes its process number, or why there is none, to standard output.

    Args:
        order: `command`, in which folder (`cwd`), as whom (`account`: user and group numbers, or None), which signal
            stops it (`stop`), after how many seconds it is killed (`grace`), for whom (`parent`: a process number),
            and which open file it keeps locked (`lock`).

    Returns:
        The command's exit status.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # each is a byte in the pipe
    user, group, groups = (None, None, None) if order["account"] is None else (*order["account"], [])
    try:
        server = subprocess.Popen(
            order["command"],
            cwd=order["cwd"],
            # Nothing of the caller's settings (PGDATA, PGPORT, languages) is for a server of our own.
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[order["lock"]],
            preexec_fn=_ends_with_us(order["stop"]),  # safe: there is one thread here
            user=user,
            group=group,
            extra_groups=groups,
        )
    except (OSError, subprocess.SubprocessError) as error:
        sys.stdout.write(f"{getattr(error, 'strerror', None) or error}\n")
        return 1
    try:
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        while server.poll() is None and os.getppid() == order["parent"]:
            ready = select.select([0, told], [], [], LOOK_EVERY)[0]
            if 0 in ready or (told in ready and set(os.read(told, 64)) - {signal.SIGCHLD}):
                break
    finally:
        if server.poll() is None:
            server.send_signal(order["stop"])
        try:
            server.wait(order["grace"])
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return 0 if server.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
