"""Looking at a file that a stranger sent, in a process of its own: a file that crashes its codec ends nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from stenopool.config import Limits
from stenopool.errors import MediaBeyondLimit, MediaError, MediaMissing, MediaUnreadable, OutOfRoom
from workers.decoders import bound_memory
from workers.media import Probe, probe

#: Seconds that a look may take.
PATIENCE = 60.0

_KINDS: dict[str, type[MediaError]] = {
    kind.__name__: kind for kind in (MediaBeyondLimit, MediaMissing, MediaUnreadable)
}

# As of workers/decoders.py.
_COMMAND = """
import json, os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path[:] = json.loads(sys.argv[1])
from workers.apart import look
look(sys.argv[2], sys.argv[3])
"""


def probe_apart(path: Path, limits: Limits) -> Probe:
    """What `workers.media.probe` says of a file.

    Raises:
        MediaError: as of that; also where the file crashes what looks at it, or keeps it for too long.
        OutOfRoom: no process can be started.
    """
    command = [sys.executable, "-P", "-c", _COMMAND, json.dumps(sys.path), str(path), json.dumps(asdict(limits))]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise MediaUnreadable(f"{path}: cannot be opened within a minute") from None
    except OSError as error:
        raise OutOfRoom(f"no process can be started to look at files ({error.strerror})") from error
    if done.returncode:
        raise MediaUnreadable(f"{path}: crashes its decoder")
    said = json.loads(done.stdout)
    if "error" in said:
        raise _KINDS.get(said["error"], MediaUnreadable)(said["message"])
    return Probe(**said)


def look(path: str, limits: str) -> None:
    """Say on standard output what a file is; the process's own part."""
    bound_memory()
    try:
        said = asdict(probe(Path(path), Limits(**json.loads(limits))))
    except MediaError as error:
        said = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(said))
