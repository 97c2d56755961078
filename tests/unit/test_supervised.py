"""A process of the farm whose parent has ended: it ends as well, whatever it waits for."""

from __future__ import annotations

import subprocess
import sys

WAITS_FOR_EVER = """
import signal, threading
from stenopool.local_farm import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
end_with_parent(grace=0.2)
print("working", flush=True)
while True:
    threading.Event().wait(60)
"""


def test_a_process_ends_after_its_parent_even_if_it_waits_for_ever() -> None:
    """It is asked to first; a worker that holds on to what it has heard, for a database that is gone, does not hear."""
    command = [sys.executable, "-c", WAITS_FOR_EVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.stdin.close()

        assert process.stdout.read() == "asked to end\n"
        assert process.wait(10) == 1
