"""Our engine for `speed.py`: python bench/speed_ours.py DTYPE WORK CHECKPOINT SOUND N."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from speed_work import BATCH, END, N_TOKENS, serve, windows

from models.checkpoint import Checkpoint
from models.decoding.requests import Decoding, Request
from models.device import use_compile_cache
from models.engine import Engine
from stenopool.config import Config
from stenopool.pool import load_model


def main(dtype: Any, kind: str, folder: Path, sound: Path, n: int) -> None:
    """A recording through the Python face, or windows through the engine."""
    if kind == "recording":
        pool = load_model(str(folder), dtype=dtype)

        def recording() -> int:
            return len(pool.transcribe(sound, language="en", temperature=0).text.split())

        serve(recording)
        return
    use_compile_cache(Config.from_env().cache / "xla")
    engine = Engine(Checkpoint("random", folder), dtype=dtype, batch_size=BATCH)
    decoding = Decoding(language="en", timestamps=False, max_new_tokens=N_TOKENS, suppress_tokens=(END,))
    pcm = windows(sound, n)

    def chunks() -> int:
        requests = [Request(key=at, pcm=one, decoding=decoding) for at, one in enumerate(pcm)]
        return sum(len(heard.tokens) for heard in engine.run(requests))

    serve(chunks)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
