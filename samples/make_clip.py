"""Makes `models/clip/speech.ogg`: the sample's first minute, small, to try a model on without any other file.

python samples/make_clip.py
"""

from __future__ import annotations

from pathlib import Path

import av

ROOT = Path(__file__).parents[1]
SECONDS = 60
BIT_RATE = 24_000


def main() -> None:
    """Cut and encode."""
    target = ROOT / "models" / "clip" / "speech.ogg"
    target.parent.mkdir(exist_ok=True)
    resampler = av.AudioResampler("flt", "mono", 48_000)  # what Opus takes
    with av.open(str(ROOT / "samples" / "meeting.mp3")) as source, av.open(str(target), "w") as out:
        stream = out.add_stream("libopus", rate=48_000, layout="mono")
        stream.bit_rate = BIT_RATE
        for frame in source.decode(audio=0):
            if frame.time is not None and frame.time >= SECONDS:
                break
            for part in resampler.resample(frame):
                out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
