"""Records what the reference implementations compute, for tests that run without them.

Needs an environment of its own with torch, transformers and openai-whisper:

    python tests/references/make_references.py

It writes `engine.npz` beside itself: log-mel features (openai-whisper), encoder states, logits and plain greedy tokens
(transformers), and tokens under Whisper's timestamp rules with their scores (openai-whisper's `decode`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import whisper
from openai_peer import random_peer
from transformers import WhisperConfig, WhisperForConditionalGeneration
from weights import CONFIGS, FORCED, MEL_FRAMES, PLAIN_STEPS, VOCAB_STEP, hf_config, sound, state_dict
from whisper.decoding import DecodingOptions


def plain_greedy(model: WhisperForConditionalGeneration, features: torch.Tensor, prompt: list[int]) -> list[int]:
    """The likeliest token after each, no rules at all."""
    tokens = list(prompt)
    for _ in range(PLAIN_STEPS):
        logits = model(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def record(name: str, pcm: np.ndarray) -> dict[str, Any]:
    """Everything that is kept of one shape."""
    state = {key: torch.from_numpy(value) for key, value in state_dict(name).items()}
    audio = torch.from_numpy(pcm.astype(np.float32) / 32768)
    mel = whisper.log_mel_spectrogram(audio, n_mels=CONFIGS[name]["mels"])
    model = WhisperForConditionalGeneration(WhisperConfig(**hf_config(name))).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"proj_out.weight"}, missing
    assert not unexpected, unexpected
    model.tie_weights()
    encoder = model.model.encoder(mel[None]).last_hidden_state[0]
    logits = model(input_features=mel[None], decoder_input_ids=torch.tensor([FORCED])).logits[0]

    peer = random_peer(name)
    theirs, tokenizer = peer.model, peer.tokenizer()
    ruled = theirs.decode(mel, DecodingOptions(language="en", fp16=False, sample_len=48, suppress_tokens="-1"))
    suppressed = whisper.decoding.DecodingTask(theirs, DecodingOptions(language="en"))._get_suppress_tokens()
    _, languages = theirs.detect_language(mel)
    # openai's order is a set's: another one in every process.
    codes = sorted(tokenizer.all_language_codes, key=tokenizer.to_language_token)
    return {
        "mel": mel.numpy()[:, MEL_FRAMES],
        "encoder": encoder[::50, ::16].numpy(),
        "logits": logits[:, ::VOCAB_STEP].numpy(),
        "logits_argmax": logits.argmax(-1).numpy(),
        "logits_std": float(logits.std()),
        "plain": np.array(plain_greedy(model, mel[None], list(FORCED[:3]))),
        "ruled": np.array(ruled.tokens),
        "avg_logprob": ruled.avg_logprob,
        "no_speech_prob": ruled.no_speech_prob,
        "languages": np.array([languages[code] for code in codes]),
        "language_tokens": np.array([tokenizer.to_language_token(code) for code in codes]),
        "suppressed": np.array(suppressed),
        "special": np.array(
            [tokenizer.eot, tokenizer.sot, tokenizer.no_speech, tokenizer.no_timestamps,
             tokenizer.timestamp_begin, tokenizer.transcribe, tokenizer.translate, *tokenizer.encode(" ")]
        ),
    }  # fmt: skip


@torch.no_grad()
def main(folder: Path) -> None:
    """Record all shapes into the folder."""
    pcm = sound()
    arrays = {f"{name}/{key}": value for name in CONFIGS for key, value in record(name, pcm).items()}
    arrays["versions"] = np.array([f"torch {torch.__version__}", f"transformers {transformers.__version__}",
                                   f"openai-whisper {whisper.__version__}"])  # fmt: skip
    target = folder / "engine.npz"
    np.savez_compressed(target, **arrays)
    for name in CONFIGS:
        print(name, f"logits std {arrays[f'{name}/logits_std']:.2f}", "ruled", arrays[f"{name}/ruled"][:16])
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(__file__).parent)
