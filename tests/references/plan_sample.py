"""Prints the plan of the bundled sample as JSON, for `make_sample_reference.py`."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import threading
from pathlib import Path

from models.checkpoint import find_checkpoint
from scheduler.plan import SpeechRun, plan_recording
from stenopool.domain import SAMPLE_RATE, Options
from stenopool.options import resolved
from storage.folder import FolderStore
from workers.ingest import ingest

SAMPLE = Path(__file__).parents[2] / "samples" / "meeting.mp3"


def main() -> None:
    """Ingest and plan the sample with the default options."""
    with tempfile.TemporaryDirectory() as folder:
        [one] = ingest(SAMPLE, FolderStore(Path(folder)), split=False, vad=True, stop=threading.Event())
    assert one.activity is not None
    options = resolved(Options())
    plan = plan_recording(
        one.duration,
        [SpeechRun(span, score) for span, score in one.activity.runs()],
        peak=one.activity.peak,
        window=round(options.chunk_length * SAMPLE_RATE),
        overlap=round(options.overlap * SAMPLE_RATE),
    )
    spans = [{"start": chunk.span.start, "end": chunk.span.end} for chunk in plan.chunks]
    sample = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    json.dump({"sample": sample, "model": find_checkpoint("pocket").digest, "chunks": spans}, sys.stdout)


if __name__ == "__main__":
    main()
