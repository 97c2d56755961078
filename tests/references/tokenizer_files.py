"""The tokenizer files of the published checkpoints, made anew from `tokenizers.npz.xz`; and what else stands in that.

Nothing is downloaded: the vocabularies are those of openai-whisper's package, see `make_tokenizer_reference.py`.
"""

from __future__ import annotations

import functools
import io
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

#: Languages of the published checkpoints: English-only ones have the tokens too, and never use them.
KINDS = {
    "english": ("english", 99),  # *.en
    "multilingual": ("multilingual", 99),  # tiny to large-v2
    "large-v3": ("multilingual", 100),  # also large-v3-turbo, distil-large-v3
}
SPECIAL = (
    "eot",
    "sot",
    "translate",
    "transcribe",
    "sot_lm",
    "sot_prev",
    "no_speech",
    "no_timestamps",
    "timestamp_begin",
)


@functools.cache
def _arrays() -> dict[str, np.ndarray]:
    content = lzma.decompress(Path(__file__).with_name("tokenizers.npz.xz").read_bytes())
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def _json(name: str) -> Any:
    return json.loads(_arrays()[name].tobytes())


@dataclass(frozen=True)
class Recorded:
    """What openai-whisper's tokenizer made of one string."""

    string: str
    ids: list[int]
    #: The text of the ids without the first and the last, which may begin or end inside a character.
    cut: str
    #: How many ids are in each word.
    by_spaces: list[int]
    by_unicode: list[int]


def recorded(vocabulary: str) -> list[Recorded]:
    """All strings with `english` or `multilingual`."""
    arrays = _arrays()
    ends = np.cumsum(arrays[f"{vocabulary}/n_ids"], dtype=np.int64)
    ids = [part.tolist() for part in np.split(arrays[f"{vocabulary}/ids"], ends[:-1])]
    rest = (_json(f"{vocabulary}/{name}") for name in ("cut", "by_spaces", "by_unicode"))
    return [Recorded(*row) for row in zip(_json("strings"), ids, *rest, strict=True)]


def special_ids(vocabulary: str) -> dict[str, int]:
    """Ids of openai-whisper's `english` or `multilingual` tokenizer (99 languages), by its names."""
    return dict(zip(SPECIAL, _arrays()[f"{vocabulary}/special"].tolist(), strict=True))


def non_speech_tokens(vocabulary: str) -> tuple[int, ...]:
    """What openai-whisper suppresses of `english` or `multilingual` as not spoken."""
    return tuple(_arrays()[f"{vocabulary}/non_speech"].tolist())


def languages() -> list[str]:
    """Codes in the order of their ids."""
    return list(_json("languages"))


def _letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where that is visible, else the next code point from 256 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + at) for at, byte in enumerate(others)}


@functools.cache
def _bpe(vocabulary: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    letters, arrays = _letters(), _arrays()
    tokens = [letters[byte] for byte in arrays[f"{vocabulary}/bytes"].tolist()]
    merges = []
    for left, right in arrays[f"{vocabulary}/merges"].T.tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    if vocabulary == "multilingual":
        tokens.append("")  # the last before the special ones, and never used
    return {token: index for index, token in enumerate(tokens)}, merges


def _added(n_languages: int) -> list[str]:
    """Special tokens, then timestamps, in the order of their ids."""
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in languages()[:n_languages]),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *(f"<|{step * 0.02:.2f}|>" for step in range(1501)),
    ]


def write_tokenizer(kind: str, folder: Path, *, as_parts: bool = False) -> int:
    """Write the tokenizer of one of `KINDS` as repositories hold it; returns the size of its vocabulary.

    With `as_parts`, not as `tokenizer.json` but as `vocab.json`, `merges.txt` and `added_tokens.json`.
    """
    vocabulary, n_languages = KINDS[kind]
    vocab, merges = _bpe(vocabulary)
    added = _added(n_languages)
    n_special = added.index("<|0.00|>")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "bos_token": added[0],
        "eos_token": added[0],
        "unk_token": added[0],
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | {"additional_special_tokens": added[:n_special]})
    )
    if as_parts:
        (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        ids = {token: len(vocab) + index for index, token in enumerate(added)}
        (folder / "added_tokens.json").write_text(json.dumps(ids))
    else:
        tokenizer = Tokenizer(
            models.BPE(vocab=vocab, merges=merges, continuing_subword_prefix="", end_of_word_suffix="")
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in added[:n_special]])
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added[n_special:]])
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    return len(vocab) + len(added)
