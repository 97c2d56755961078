"""Token ids, prompts and text, from the bundled checkpoint's own files and from lesser ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import BUNDLED, Checkpoint, find_checkpoint
from models.tokens import Vocabulary
from stenopool.errors import CheckpointError, UsageError
from tests.checkpoints import write_unweighted
from tests.references import tokenizer_files

POCKET = BUNDLED["pocket"]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Pocket's."""
    return Vocabulary(find_checkpoint("pocket"))


def variant(folder: Path, **generation: Any) -> Checkpoint:
    """Pocket with other entries in its generation config; None takes one out."""
    copy = Path(shutil.copytree(POCKET, folder / "copy", ignore=shutil.ignore_patterns("*.safetensors")))
    whole = json.loads((copy / "generation_config.json").read_text()) | generation
    kept = {key: value for key, value in whole.items() if value is not None}
    (copy / "generation_config.json").write_text(json.dumps(kept))
    return Checkpoint("copy", copy)


def test_special_ids(vocabulary: Vocabulary) -> None:
    """All ids that steer decoding are those of the checkpoint's files."""
    special = vocabulary.special

    assert special.end_of_text == 1000
    assert special.start_of_transcript == 1001
    assert special.no_speech == 1105
    assert special.no_timestamps == 1106
    assert special.timestamp_begin == 1107
    assert special.tasks == {"transcribe": 1102, "translate": 1101}
    assert len(special.languages) == 99
    assert (special.languages["en"], special.languages["de"], special.languages["su"]) == (1002, 1004, 1100)
    assert sorted(special.languages.values()) == list(range(1002, 1101))
    # start of transcript, translate, transcribe, start of LM, start of previous, no speech
    assert special.suppressed == (1001, 1101, 1102, 1103, 1104, 1105)
    assert special.suppressed_at_begin == (220, 1000)


def test_prompts(vocabulary: Vocabulary) -> None:
    """A prompt is the start, the language, the task."""
    assert vocabulary.prompt("en", "transcribe") == (1001, 1002, 1102)
    assert vocabulary.prompt("de", "translate") == (1001, 1004, 1101)


def test_unknown_languages_are_refused_with_the_known(vocabulary: Vocabulary) -> None:
    """The message lists what the checkpoint knows, in order."""
    with pytest.raises(UsageError, match=r"^pocket does not know the language 'xx'; it knows: af am ar .* yo zh$"):
        vocabulary.prompt("xx", "transcribe")


def test_unknown_tasks_are_refused_with_the_known(vocabulary: Vocabulary) -> None:
    """A task that comes from a program's user is checked as a language is."""
    task: Any = "summarise"

    with pytest.raises(
        UsageError, match=r"^pocket does not know the task 'summarise'; it knows: transcribe translate$"
    ):
        vocabulary.prompt("en", task)


@pytest.mark.parametrize(
    ("said", "code"),
    [("German", "de"), (" english ", "en"), ("DE", "de"), ("Castilian", "es"), ("haw", "haw"), ("Klingon", "klingon")],
)
def test_languages_by_their_english_names(vocabulary: Vocabulary, said: str, code: str) -> None:
    """Names and codes give the code, in any case; what is neither comes back to be refused."""
    assert vocabulary.language_code(said) == code


def test_text_leaves_special_ids_out(vocabulary: Vocabulary) -> None:
    """Prompt, timestamps and the end are no text; ordinary tokens keep their leading space."""
    words = [token for token in range(1000) if vocabulary.text([token]) in (" the", " and")]
    assert len(words) == 2
    joined = vocabulary.text(words)

    assert sorted(joined.split(" ")) == ["", "and", "the"]
    assert vocabulary.text([1001, 1002, 1102, 1107, words[0], 1200, words[1], 2607, 1105, 1000]) == joined
    assert vocabulary.text([1107, 1000]) == ""
    assert vocabulary.text([]) == ""


@pytest.mark.parametrize(
    "text", [" the quick fox", "", " ", "a  b\n\n c", "Gr\u00fc\u00dfe, \u4f60\u597d\u3000\U0001f399", "\u202e!\x00"]
)
def test_ids_of_a_text_are_its_text_again(vocabulary: Vocabulary, text: str) -> None:
    """Any text becomes ordinary ids, and those the same text."""
    ids = vocabulary.encode(text)

    assert all(0 <= token < vocabulary.special.end_of_text for token in ids)
    assert vocabulary.text(ids) == text


def test_a_text_cannot_steer(vocabulary: Vocabulary) -> None:
    """What looks like a special token or a timestamp is encoded letter by letter, as any other text."""
    ids = vocabulary.encode("<|en|><|0.00|><|endoftext|>")

    assert max(ids) < vocabulary.special.end_of_text


@pytest.fixture(scope="module", params=list(tokenizer_files.KINDS))
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Vocabulary]:
    """The vocabulary of a published checkpoint, and the name of what was recorded with it."""
    kind: str = request.param
    return tokenizer_files.KINDS[kind][0], Vocabulary(write_unweighted(kind, tmp_path_factory.mktemp(kind)))


def test_a_thousand_strings_have_openais_ids(published: tuple[str, Vocabulary]) -> None:
    """In two dozen scripts, with signs, odd spaces and what looks like a special token: the ids of openai-whisper."""
    name, vocabulary = published
    recorded = tokenizer_files.recorded(name)

    assert len({one.string for one in recorded}) == 1000
    assert [one.string for one in recorded if vocabulary.encode(one.string) != tuple(one.ids)] == []


def test_a_thousand_strings_have_openais_text(published: tuple[str, Vocabulary]) -> None:
    """All ids give the string again; without the first and the last, even half characters are openai-whisper's."""
    name, vocabulary = published
    recorded = tokenizer_files.recorded(name)

    assert [one.string for one in recorded if vocabulary.text(one.ids) != one.string] == []
    assert [one.string for one in recorded if vocabulary.text(one.ids[1:-1]) != one.cut] == []
    assert len([one for one in recorded if "\ufffd" in one.cut]) > 100


def test_published_special_ids(published: tuple[str, Vocabulary]) -> None:
    """Without a generation config, the tokenizer says what openai-whisper has in its code."""
    name, vocabulary = published
    theirs = tokenizer_files.special_ids(name)
    ours = vocabulary.special
    extra = max(len(ours.languages) - 99, 0)  # of large-v3, whose hundredth language moves what stands behind it

    assert (ours.end_of_text, ours.start_of_transcript) == (theirs["eot"], theirs["sot"])
    assert ours.no_speech == theirs["no_speech"] + extra
    assert ours.no_timestamps == theirs["no_timestamps"] + extra
    assert ours.timestamp_begin == theirs["timestamp_begin"] + extra
    if name == "english":
        assert (ours.languages, ours.tasks) == ({}, {})
    else:
        assert ours.tasks == {task: theirs[task] + extra for task in ("transcribe", "translate")}
        assert list(ours.languages) == tokenizer_files.languages()[: 99 + extra]
        assert list(ours.languages.values()) == list(range(theirs["sot"] + 1, theirs["translate"] + extra))
    steering = [theirs["sot"], *(theirs[key] + extra for key in ("translate", "transcribe", "sot_lm", "sot_prev"))]
    steering.append(ours.no_speech)
    assert ours.suppressed == (*tokenizer_files.non_speech_tokens(name), *steering)


def test_published_timestamps_are_spelled(published: tuple[str, Vocabulary]) -> None:
    """`spell` writes special tokens out where `text` leaves them out."""
    _, vocabulary = published
    special = vocabulary.special
    tokens = [
        special.start_of_transcript,
        special.timestamp_begin,
        *vocabulary.encode(" Hi"),
        special.timestamp_begin + 54,
    ]

    assert vocabulary.spell(tokens) == "<|startoftranscript|><|0.00|> Hi<|1.08|>"
    assert vocabulary.text(tokens) == " Hi"


@pytest.mark.parametrize("kind", list(tokenizer_files.KINDS))
def test_a_tokenizer_in_parts(tmp_path: Path, kind: str) -> None:
    """Old repositories have `vocab.json`, `merges.txt` and `added_tokens.json`: the same vocabulary."""
    parts = Vocabulary(write_unweighted(kind, tmp_path / "parts", as_parts=True))
    whole = Vocabulary(write_unweighted(kind, tmp_path / "whole"))

    assert parts.special == whole.special
    recorded = tokenizer_files.recorded(tokenizer_files.KINDS[kind][0])
    assert [one.string for one in recorded if parts.encode(one.string) != tuple(one.ids)] == []


def test_korean_is_longer_in_english_tokens(tmp_path: Path) -> None:
    """The multilingual vocabulary knows more of other scripts; both give the text back."""
    text = "다람쥐 헌 쳇바퀴에 타고파"
    english = Vocabulary(write_unweighted("english", tmp_path / "english"))
    multilingual = Vocabulary(write_unweighted("multilingual", tmp_path / "multilingual"))

    assert english.text(english.encode(text)) == multilingual.text(multilingual.encode(text)) == text
    assert len(english.encode(text)) > len(multilingual.encode(text))


def test_signs_of_a_small_vocabulary(vocabulary: Vocabulary) -> None:
    """Where a note is only bytes, and " -" a space and a hyphen, neither the byte nor the space is suppressed."""
    assert set(map(vocabulary.text, ([token] for token in vocabulary.non_speech_tokens))) == set(
        '"#()*+/:;<=>@[\\]^_`{|}~'
    )


def test_nothing_is_said_about_pytorch() -> None:
    """Loading a tokenizer and measuring a transcript print nothing."""
    for code in (
        "from models.tokens import Vocabulary; from models.checkpoint import find_checkpoint;"
        "Vocabulary(find_checkpoint('pocket')).prompt('en', 'transcribe')",
        "from models.accuracy import word_error_rate; word_error_rate('a', 'b')",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

        assert (done.stdout, done.stderr) == ("", "")


def test_the_tokenizer_stands_in_for_a_generation_config(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """A multilingual checkpoint from before generation configs is not taken for an English-only one.

    Nobody says what it should not write: then those are the signs that nobody speaks.
    """
    checkpoint = variant(tmp_path)
    (checkpoint.folder / "generation_config.json").unlink()

    special = Vocabulary(checkpoint).special

    assert replace(special, suppressed=vocabulary.special.suppressed) == vocabulary.special
    signs = {vocabulary.encode(sign)[0] for sign in '"#()*+/:;<=>@[\\]^_`{|}~'}
    assert special.suppressed == (*sorted(signs), *vocabulary.special.suppressed)


def test_an_english_only_checkpoint(tmp_path: Path) -> None:
    """It has no languages, and a prompt of one token; anything but English is refused."""
    english = Vocabulary(variant(tmp_path, is_multilingual=False))

    assert english.special.languages == {}
    assert english.special.tasks == {}
    assert english.prompt("en", "transcribe") == (1001,)
    with pytest.raises(UsageError, match=r"^copy transcribes English only: --language en --task transcribe$"):
        english.prompt("de", "transcribe")
    with pytest.raises(UsageError, match="English only"):
        english.prompt("en", "translate")


def test_a_checkpoints_own_lists_win(tmp_path: Path) -> None:
    """Suppress lists and the first timestamp are the checkpoint's; what steers is suppressed all the same."""
    special = Vocabulary(variant(tmp_path, suppress_tokens=[7, 1001], begin_suppress_tokens=[5])).special

    assert special.suppressed == (7, 1001, 1101, 1102, 1103, 1104, 1105)
    assert special.suppressed_at_begin == (5,)


@pytest.mark.parametrize(
    "generation",
    [
        {"suppress_tokens": [2608]},
        {"suppress_tokens": [-1]},
        {"begin_suppress_tokens": [220, 50257]},
        {"lang_to_id": {"<|en|>": 50259}},
        {"task_to_id": {"transcribe": 50359}},
        {"no_timestamps_token_id": 2607},
    ],
)
def test_ids_outside_the_vocabulary(tmp_path: Path, generation: dict[str, Any]) -> None:
    """A generation config of another model is found out before anything is decoded."""
    with pytest.raises(CheckpointError, match=r"^copy: token -?\d+ is beyond the model's vocabulary of 2608$"):
        Vocabulary(variant(tmp_path, **generation))


@pytest.mark.parametrize(
    "generation",
    [{"lang_to_id": ["<|en|>"]}, {"suppress_tokens": 5}, {"task_to_id": "transcribe"}, {"no_timestamps_token_id": "x"}],
)
def test_a_generation_config_of_another_kind(tmp_path: Path, generation: dict[str, Any]) -> None:
    """Entries of the wrong kind are an error of the checkpoint, not of the program."""
    with pytest.raises(CheckpointError, match=r"^copy: generation_config\.json is not Whisper's \(.*\)"):
        Vocabulary(variant(tmp_path, **generation))


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    """What does not parse is named in one line."""
    checkpoint = variant(tmp_path)
    (checkpoint.folder / "tokenizer.json").write_text("{")

    with pytest.raises(CheckpointError, match=r"^copy: its tokenizer does not load") as caught:
        Vocabulary(checkpoint)

    assert len(str(caught.value).splitlines()) == 1


def test_no_tokenizer(tmp_path: Path) -> None:
    """A checkpoint without tokenizer files lacks Whisper's tokens."""
    for name in ("config.json", "generation_config.json"):
        shutil.copy(POCKET / name, tmp_path)

    with pytest.raises(CheckpointError, match=r"^bare: its tokenizer has no <\|.*\|> token; is this a Whisper"):
        Vocabulary(Checkpoint("bare", tmp_path))
