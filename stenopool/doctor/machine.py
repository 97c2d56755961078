"""What a machine brings along: the model, the device, FFmpeg, room on its disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from models.checkpoint import find_checkpoint
from stenopool.doctor.findings import Finding, doubtful, failed, fine

#: Bytes free on a disk below which there is hardly room, and below which there is none.
LITTLE_ROOM, NO_ROOM = 5e9, 0.2e9


def has_jax() -> bool:
    """Whether this installation could hear at all: that of the farm's desk, which has no device, could not."""
    return find_spec("jax") is not None


def look_at_model(name: str) -> Finding:
    """Whether a model is here, and is a Whisper; its weights are not loaded."""
    from models.tokens import Vocabulary

    checkpoint = find_checkpoint(name, fetch=False)
    vocabulary = Vocabulary(checkpoint)
    tensors = ""
    if has_jax():
        from models.whisper.weights import read_headers

        tensors = f" in {sum(len(read_headers(file)) for file in checkpoint.weights)} tensors"
    size = sum(file.stat().st_size for file in checkpoint.weights)
    n_languages = len(vocabulary.special.languages) or 1
    return fine(
        f"{name}: {size / 1e6:.0f} MB{tensors}, {checkpoint.dims.n_vocab} tokens, "
        f"{n_languages} language{'s' * (n_languages > 1)}"
    )


#: In a process of its own: what a driver hangs in cannot be left otherwise, and an engine beside must not lose memory.
_DEVICES = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from models.device import describe_devices
print(json.dumps(describe_devices()))
"""


def look_at_device(seconds: float, *, elsewhere: bool = False) -> Finding:
    """What JAX computes on. Without JAX it is a fault, unless engines are `elsewhere`."""
    from workers.decoders import usable_cores

    if elsewhere and not has_jax():
        return fine("no JAX in this installation: engines run elsewhere")

    path = json.dumps([os.path.abspath(folder) for folder in sys.path])  # noqa: PTH100 - "" is the current one
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _DEVICES, path],
            env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=0.8 * seconds,  # before we are given up ourselves
            check=False,
        )
    except subprocess.TimeoutExpired:
        return failed("JAX does not come back", "see to the driver, and to who else uses it")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return failed(f"JAX finds none ({why})", "correct JAX_PLATFORMS, or install JAX for the device: jax[cuda13]")
    told = json.loads(done.stdout.splitlines()[-1])
    return of_device(told, cores=usable_cores(), nvidia=Path("/proc/driver/nvidia/version").exists())


def of_device(told: dict[str, str | int], *, cores: int, nvidia: bool) -> Finding:
    """What JAX's devices amount to, on a machine with so many cores, with a driver of NVIDIA's or without."""
    free = f"{int(told['free']) / 1e9:.1f} GB free"
    if told["platform"] != "cpu":
        number = f"{told['number']} x " if told["number"] != 1 else ""
        return fine(f"{number}{told['kind']} ({told['platform']}), {free}")
    seen = f"CPU, {cores} core{'s' * (cores > 1)}, {free}"
    if nvidia:
        return doubtful(f"{seen}, though there is a GPU", "install JAX for it: pip install 'jax[cuda13]'")
    return fine(seen)


def look_at_media() -> Finding:
    """Whether FFmpeg reads what recordings come in, and decodes a clip of speech."""
    from workers.codecs import missing, version
    from workers.media import Decoder
    from workers.windows import CLIP

    with Decoder(CLIP) as decoder:
        seconds = sum(block.shape[1] for block in decoder) / 16_000
    if lacks := list(missing()):
        return doubtful(f"{version()}, without {', '.join(lacks)}", "install PyAV from its wheel: pip install av")
    return fine(f"{version()}, with the usual codecs; decoded {seconds:.0f} s of speech")


def look_at_disk(folder: Path, setting: str) -> Finding:
    """Whether there is room for a folder, which may have to be made yet, and files can be made in it."""
    there = folder
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
        return of_disk(folder, shutil.disk_usage(there).free, setting)
    except OSError as error:
        return failed(f"{folder}: no file can be made in {there} ({error.strerror})", f"set {setting} elsewhere")


def of_disk(folder: Path, free: float, setting: str) -> Finding:
    """What so many free bytes amount to."""
    seen = f"{folder}: {free / 1e9:.1f} GB free"
    cure = f"make room, or set {setting} elsewhere; a day of sound takes 2.8 GB while it is transcribed"
    if free < NO_ROOM:
        return failed(seen, cure)
    return doubtful(seen, cure) if free < LITTLE_ROOM else fine(seen)
