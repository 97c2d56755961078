"""What an option may be, what contradicts what, and that nothing is accepted and ignored: on every way to them."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from models.checkpoint import find_checkpoint
from models.tokens import Vocabulary
from stenopool.cli.loading import NAMES
from stenopool.cli.options import HELP, decoding_options, taken
from stenopool.cli.transcribe import transcribe
from stenopool.domain import Options
from stenopool.errors import UsageError
from stenopool.options import options_of, resolved
from workers.assignment import assign

ROOT = Path(__file__).parents[2]
ALL = [field.name for field in fields(Options)]

WORDS = {"word_timestamps": True}
GREEDY = {"temperature": 0}
SEQUENTIAL = {"mode": "sequential"}

#: What is refused, beside what, and what is said of it.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"beam_size": 0}, "beam_size must be between 1 and 100, is 0"),
    ({"best_of": 101}, "best_of must be between 1 and 100, is 101"),
    ({"patience": 0, "beam_size": 5}, "patience must be above 0 and at most 100, is 0"),
    ({"patience": 0.4, "beam_size": 2}, "a patience of 0.4 ends a search of 2 beams before it begins"),
    ({"length_penalty": 2, "beam_size": 5}, "length_penalty must be between 0 and 1, is 2"),
    ({"compression_ratio_threshold": 0}, "compression_ratio_threshold must be above 0, is 0"),
    ({"max_initial_timestamp": -1}, "max_initial_timestamp must be 0 or more, is -1"),
    ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, is 0"),
    ({"max_tokens_per_second": 0}, "max_tokens_per_second must be above 0, is 0"),
    ({"chunk_length": 1e12}, "chunk_length must be at most 1e+09, is 1000000000000.0"),
    ({"temperature": []}, "temperature must be one or several of 0 to 2, is []"),
    ({"temperature": [0, 3]}, "temperature must be one or several of 0 to 2, is [0.0, 3.0]"),
    ({"temperature": "0"}, "temperature must be a list, each a finite number, is '0'"),
    ({"initial_prompt": "\udcff"}, "initial_prompt must be text in UTF-8, is '\\udcff'"),
    ({"max_new_tokens": 10.5}, "max_new_tokens must be a whole number or None, is 10.5"),
    ({"beam_size": True}, "beam_size must be a whole number, is True"),
    ({"mode": "fast"}, "mode must be 'chunked' or 'sequential', is 'fast'"),
    ({"beam_size": 5, "temperature": 0.5}, "beam_size needs a temperature of 0"),
    ({"patience": 2}, "patience needs a beam_size above 1"),
    ({"length_penalty": 1, **GREEDY}, "length_penalty needs several beams or samples"),
    ({"length_penalty": 1, "temperature": 0.5, "best_of": 1}, "length_penalty needs several beams or samples"),
    ({"best_of": 3, **GREEDY}, "best_of needs a temperature above 0"),
    ({"compression_ratio_threshold": 2, **GREEDY}, "compression_ratio_threshold needs another temperature to go on at"),
    (
        {"log_prob_threshold": -2, "no_speech_threshold": None, **GREEDY},
        "log_prob_threshold needs another temperature to go on at, or a no_speech_threshold",
    ),
    ({"languages": ["de"], "language": "en"}, "languages needs language to be auto"),
    ({"multilingual": True, "language": "en"}, "multilingual needs language to be auto"),
    (
        {"max_initial_timestamp": 2, "without_timestamps": True},
        "max_initial_timestamp contradicts without_timestamps; leave one of them out",
    ),
    (
        {"condition_on_previous_text": True},
        "condition_on_previous_text needs the sequential mode: chunks know nothing of each other",
    ),
    ({"prompt_reset_on_temperature": 0.4}, "prompt_reset_on_temperature needs condition_on_previous_text"),
    (
        {"prompt_reset_on_temperature": 0.4, "condition_on_previous_text": False, **SEQUENTIAL},
        "prompt_reset_on_temperature needs condition_on_previous_text",
    ),
    (
        {"without_timestamps": True, **SEQUENTIAL},
        "without_timestamps contradicts the sequential mode, which goes on where the last timestamp was; "
        "choose the chunked one",
    ),
    ({"overlap": 2, **SEQUENTIAL}, "overlap is for chunked mode; leave it out"),
    ({"hallucination_silence_threshold": 2}, "hallucination_silence_threshold needs word_timestamps"),
    ({"prepend_punctuations": "x"}, "prepend_punctuations needs word_timestamps"),
    ({"append_punctuations": ""}, "append_punctuations needs word_timestamps"),
    # What only a checkpoint can say.
    ({"chunk_length": 31}, "--chunk-length must be between 2 and the model's window of 30 seconds"),
    ({"overlap": 15}, "--overlap must be between 0 and less than half of the chunk length of 30; name a smaller one"),
    ({"suppress_tokens": [9999]}, "token 9999 to suppress is beyond the vocabulary of 2608"),
    ({"suppress_tokens": [-2]}, "token -2 to suppress is beyond the vocabulary of 2608"),
    ({"suppress_tokens": [1000]}, "token 1000 cannot be suppressed: texts end with it, or are timed by it"),
    ({"languages": ["de", "xx"]}, "pocket does not know the language 'xx'"),
    ({"prefix": "so " * 200}, "a prefix of 201 tokens is too long; this model takes 112"),
    (
        {"initial_prompt": "so " * 120, "hotwords": "so " * 120},
        "initial_prompt and hotwords have 240 tokens; this model takes 223: shorten them",
    ),
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Of the bundled model."""
    return Vocabulary(find_checkpoint("pocket"))


@pytest.mark.parametrize(
    ("values", "said"), REFUSED, ids=[f"{', '.join(values)}-{at}" for at, (values, _) in enumerate(REFUSED)]
)
def test_what_makes_no_sense_is_refused(vocabulary: Vocabulary, values: dict[str, Any], said: str) -> None:
    """A value, or one beside another in whose company it would have no effect; the line names it."""
    with pytest.raises(UsageError) as refusal:
        assign(find_checkpoint("pocket"), vocabulary, options_of(values), dtype="float32", split=False, force=False)

    assert str(refusal.value).startswith(said)


def test_what_is_left_out_has_no_conditions() -> None:
    """Any option may be given its own default, beside any other."""
    defaults = {name: getattr(Options(), name) for name in ALL}

    for values in (GREEDY, SEQUENTIAL, WORDS, {"temperature": 0.5}, {"language": "en"}, {"without_timestamps": True}):
        assert options_of({**defaults, **values}) == options_of(values)


def test_the_same_work_has_one_name() -> None:
    """What stands for something else in its mode is that, whichever way it was said."""
    assert resolved(options_of({"suppress_tokens": [-1]})) == resolved(Options())
    assert resolved(options_of({"overlap": 3})) == resolved(Options())
    assert resolved(options_of({"condition_on_previous_text": False})) == resolved(Options())
    told = {**SEQUENTIAL, "condition_on_previous_text": True, "prompt_reset_on_temperature": 0.5}
    assert resolved(options_of(told)) == resolved(options_of(SEQUENTIAL))
    assert resolved(resolved(options_of(told))) == resolved(options_of(told))


# The command line

#: What each option is on the command line, and in Python.
SAID: dict[str, tuple[list[str], Any]] = {
    "language": (["-l", "de"], "de"),
    "languages": (["--languages", "de, fr"], ("de", "fr")),
    "multilingual": (["--multilingual"], True),
    "task": (["--task", "translate"], "translate"),
    "mode": (["--mode", "sequential"], "sequential"),
    "chunk_length": (["--chunk-length", "20"], 20.0),
    "overlap": (["--overlap", "2"], 2.0),
    "vad": (["--no-vad"], False),
    "beam_size": (["--beam-size", "5"], 5),
    "patience": (["--patience", "2", "--beam-size", "5"], 2.0),
    "best_of": (["--best-of", "3"], 3),
    "length_penalty": (["--length-penalty", "0.5"], 0.5),
    "temperature": (["--temperature", "0,0.5"], (0.0, 0.5)),
    "compression_ratio_threshold": (["--compression-ratio-threshold", "none"], None),
    "log_prob_threshold": (["--log-prob-threshold", "-0.5"], -0.5),
    "no_speech_threshold": (["--no-speech-threshold", "none"], None),
    "suppress_tokens": (["--suppress-tokens", "-1,7"], (-1, 7)),
    "suppress_blank": (["--no-suppress-blank"], False),
    "max_new_tokens": (["--max-new-tokens", "50"], 50),
    "initial_prompt": (["--initial-prompt", "Zoë"], "Zoë"),
    "hotwords": (["--hotwords", "Zoë"], "Zoë"),
    "prefix": (["--prefix", "Zoë"], "Zoë"),
    "condition_on_previous_text": (["--no-condition-on-previous-text"], False),
    "prompt_reset_on_temperature": (["--mode", "sequential", "--prompt-reset-on-temperature", "0.2"], 0.2),
    "without_timestamps": (["--without-timestamps"], True),
    "max_initial_timestamp": (["--max-initial-timestamp", "none"], None),
    "word_timestamps": (["--word-timestamps"], True),
    "prepend_punctuations": (["--word-timestamps", "--prepend-punctuations", ""], ""),
    "append_punctuations": (["--word-timestamps", "--append-punctuations", "."], "."),
    "loop_guard": (["--no-loop-guard"], False),
    "max_tokens_per_second": (["--max-tokens-per-second", "12.5"], 12.5),
    "hallucination_silence_threshold": (["--word-timestamps", "--hallucination-silence-threshold", "2"], 2.0),
}


def said(arguments: list[str]) -> Options:
    """The options that a command line asks for."""
    found: list[Options] = []

    @click.command()
    @decoding_options
    def command(**values: Any) -> None:
        found.append(taken(values))

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return found[0]


def test_the_command_line_has_the_defaults_of_python() -> None:
    """Nothing said is nothing changed."""
    assert said([]) == Options()


@pytest.mark.parametrize("name", SAID)
def test_each_option_arrives(name: str) -> None:
    """As the value that Python would be given, and as another than its default."""
    arguments, value = SAID[name]

    assert getattr(said(arguments), name) == value != getattr(Options(), name)


def test_the_command_line_has_all_options() -> None:
    """Each has a flag, a help text and a row above."""
    assert sorted(ALL) == sorted(SAID) == sorted(name for names in HELP.values() for name in names)


# The page

PAGE = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
#: Of each row: the option's name, its default, and what shows that it does something.
ROWS = {
    name: (default, re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", shown))
    for name, default, shown in re.findall(r"^\| `(\w+)` \| (.+?) \| .*? \| (.*) \|$", PAGE, flags=re.MULTILINE)
}

#: Defaults that a page says in words.
IN_WORDS: dict[str, Any] = {
    "languages": "all",
    "suppress_tokens": "the model's",
    "overlap": "3",
    "condition_on_previous_text": "in sequential mode",
    "prompt_reset_on_temperature": "0.5",
}


def test_the_page_has_every_option_with_its_default() -> None:
    """Those of the text, those of loading, and the command's own; the sections are those of the help."""
    flags = {max(option.opts, key=len) for option in transcribe.params if isinstance(option, click.Option)}

    assert {f"--{name.replace('_', '-')}" for name in ROWS} == flags
    assert set(ROWS) >= {*ALL, *NAMES}
    for name in ALL:
        assert ROWS[name][0] == IN_WORDS.get(name, in_words(getattr(Options(), name))), name
    for section, names in HELP.items():
        [part] = re.findall(rf"^## {section}\n(.*?)(?=^## )", PAGE, flags=re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)) == set(names)


def in_words(default: Any) -> str:
    """A default as the page has it."""
    if default is None or isinstance(default, bool):
        return {None: "none", True: "yes", False: "no"}[default]
    if isinstance(default, str):
        return f"`{default}`"
    several = default if isinstance(default, tuple) else (default,)
    return ", ".join(f"{one:g}" for one in several)


@pytest.mark.parametrize("name", ROWS)
def test_what_shows_an_option_is_there(name: str) -> None:
    """Each names one test at least, and all of them exist where the page says."""
    tests = ROWS[name][1]

    assert tests
    for test, file in tests:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
