"""The main job on the bundled recording with the bundled model: `make demo`.

It transcribes `meeting.mp3` as `stenopool transcribe` does, then compares the text with the script it was spoken from.
Ledger and transcripts go to `.demo/` in the checkout; compiled programs to the usual cache, so that a second run is
quicker.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from script import reference_text

from models.accuracy import word_error_rate
from models.checkpoint import find_checkpoint
from stenopool.cli.progress import Progress
from stenopool.config import Config
from stenopool.domain import SAMPLE_RATE, Options
from stenopool.errors import StenopoolError
from stenopool.formats import KEPT
from workers.local import Driver
from workers.prepare import SourceFile
from workers.publish import publish

HERE = Path(__file__).parent
ROOT = HERE.parent
SHOWN = 8  # lines of the transcript


def main() -> None:
    """Transcribe, compare, print."""
    config = replace(Config.from_env(), home=ROOT / ".demo" / "home")
    shutil.rmtree(config.home, ignore_errors=True)  # each run is a first one
    source = SourceFile(HERE / "meeting.mp3", "samples/meeting.mp3")
    started = time.perf_counter()
    with (
        Progress(enabled=True, n_sources=1) as progress,
        Driver(config, find_checkpoint("pocket"), Options(language="en"), observer=progress) as driver,
    ):
        [outcome] = driver.run([source])
    wall = time.perf_counter() - started
    if outcome.error is not None:
        raise outcome.error
    [transcript] = outcome.transcripts
    files = publish(transcript, ROOT / ".demo", "meeting", KEPT)
    files = files or [ROOT / ".demo" / f"meeting.{name}" for name in KEPT]

    lines = transcript.to_txt().splitlines()
    print(*(f"  {line}" for line in lines[:SHOWN]), f"  ... {len(lines) - SHOWN} more lines", sep="\n")
    reference = reference_text(HERE / "script.txt")
    seconds = transcript.duration / SAMPLE_RATE
    timings = driver.timings
    print(
        f"\nword error rate   {word_error_rate(reference, transcript.text):.1%} of {len(reference.split())} words",
        f"real-time factor  {wall / seconds:.3f}: {seconds:.0f} s of sound in {wall:.1f} s",
        f"  compile         {timings.compile:5.1f} s   (less once .cache/stenopool/xla is filled)",
        f"  decode audio    {timings.prepare:5.1f} s   (pauses found meanwhile; beside the others)",
        f"  model           {timings.model:5.1f} s",
        "files             " + "\n                  ".join(str(file.relative_to(ROOT)) for file in files),
        sep="\n",
    )


if __name__ == "__main__":
    try:
        main()
    except StenopoolError as error:
        sys.exit(f"make demo: {error}")
    except KeyboardInterrupt:
        sys.exit("make demo: stopped")
