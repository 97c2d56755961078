"""Whole recordings through openai/whisper's `transcribe`."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
import whisper
from openai_peer import Peer
from recordings import RATE, as_float
from whisper.audio import HOP_LENGTH, N_FRAMES, N_SAMPLES

_TRANSCRIBE = importlib.import_module("whisper.transcribe")
PROMPT = "meeting budget"

#: Name -> options of `transcribe`; temperature 0 alone, because what is sampled cannot be compared.
CASES: dict[str, dict[str, Any]] = {
    "previous_text": {},
    "no_previous_text": {"condition_on_previous_text": False},
    "words": {"word_timestamps": True},
    "words_no_previous_text": {"word_timestamps": True, "condition_on_previous_text": False},
    "hallucination": {"word_timestamps": True, "hallucination_silence_threshold": 2.0},
    "initial_prompt": {"initial_prompt": PROMPT},
    "carried_prompt": {"initial_prompt": PROMPT, "carry_initial_prompt": True},
    "clips": {"clip_timestamps": "5,32.5,40,80"},
    "beam_5": {"beam_size": 5, "condition_on_previous_text": False},
}
#: What is transcribed where there is no time for all.
QUICK = ("previous_text", "words_no_previous_text", "carried_prompt", "beam_5")
#: What the whole sample is transcribed with.
FEW = ("previous_text", "no_previous_text", "words_no_previous_text")


class WindowedMel:
    """Stands for the features of a recording, but makes those of each window from that window's sound alone.

    openai/whisper makes them once, of the whole recording: then the loudest moment anywhere decides what counts as
    silence everywhere, and a last short window is filled up with zeros in place of the features of silence.
    """

    def __init__(self, sound: np.ndarray, n_mels: int) -> None:
        self._sound, self._n_mels = sound, n_mels
        self.shape = (n_mels, len(sound) // HOP_LENGTH + N_FRAMES)

    def __getitem__(self, at: tuple[slice, slice]) -> torch.Tensor:
        start = at[1].start
        length = (at[1].stop - start) * HOP_LENGTH
        window = torch.from_numpy(self._sound[start * HOP_LENGTH :][:length])
        return whisper.log_mel_spectrogram(whisper.pad_or_trim(window, N_SAMPLES), self._n_mels)


def transcribe(peer: Peer, pcm: np.ndarray, options: dict[str, Any], *, windowed: bool) -> dict[str, Any]:
    """One run.

    Args:
        peer: the model.
        pcm: int16 [samples].
        options: besides temperature 0 and English.
        windowed: features of each window from its own sound.

    Returns:
        `windows`: what every call of `decode` was given and gave; `segments`: what `transcribe` returned.
    """
    windows: list[dict[str, Any]] = []
    decode = peer.model.decode

    def watched(mel: torch.Tensor, decoding: whisper.DecodingOptions) -> whisper.DecodingResult:
        result = decode(mel, decoding)
        windows.append(
            {
                "prompt": list(decoding.prompt or ()),
                "tokens": result.tokens,
                "avg_logprob": result.avg_logprob,
                "no_speech_prob": result.no_speech_prob,
                "compression_ratio": result.compression_ratio,
            }
        )
        return result

    sound = as_float(pcm)
    mel = WindowedMel(sound, peer.model.dims.n_mels)
    features = mock.patch.object(_TRANSCRIBE, "log_mel_spectrogram", return_value=mel)
    with peer.speaking(), mock.patch.object(peer.model, "decode", watched), features if windowed else nullcontext():
        found = whisper.transcribe(peer.model, sound, temperature=0.0, language="en", fp16=False, **options)
    segments = [
        {key: segment[key] for key in ("seek", "start", "end", "text", "tokens")}
        | ({"words": segment["words"]} if "words" in segment else {})
        for segment in found["segments"]
    ]
    return {
        "seconds": len(pcm) / RATE,
        "features": "window" if windowed else "recording",
        "options": options,
        "windows": windows,
        "segments": segments,
    }
