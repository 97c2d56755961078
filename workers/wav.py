"""Samples as a WAV file that is never written: its header, before what is read of them as it is asked for."""

from __future__ import annotations

import struct

from stenopool.domain import SAMPLE_RATE

BYTES_PER_SAMPLE = 2  # int16
#: A WAV file tells its size in 32 bits: 37 hours of one channel. A longer one is RF64 (EBU Tech 3306), which FFmpeg and
#: the browsers that are built on it read, and others do not.
MOST = 2**32 - 1
_RF64 = 0xFFFFFFFF


def wav_header(frames: int, channels: int) -> bytes:
    """What stands before 16 kHz int16 samples in a WAV file.

    Args:
        frames: samples of each channel.
    """
    frame = channels * BYTES_PER_SAMPLE
    data = frames * frame
    format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, SAMPLE_RATE, SAMPLE_RATE * frame, frame, 16)
    if 36 + data <= MOST:
        return struct.pack("<4sI4s", b"RIFF", 36 + data, b"WAVE") + format + struct.pack("<4sI", b"data", data)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 72 + data, data, frames, 0)
    return struct.pack("<4sI4s", b"RF64", _RF64, b"WAVE") + sizes + format + struct.pack("<4sI", b"data", _RF64)
