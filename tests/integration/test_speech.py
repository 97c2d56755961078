"""OpenAI's own client against the API: what it is told, step by step, by a farm whose processes the test plays."""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import openai
import pytest

from stenopool.api.app import make_app
from stenopool.config import Config
from storage.access import Access, Actor
from storage.database import open_database
from storage.desk import Submission
from storage.fleet import Worker
from storage.folder import FolderStore
from storage.tables import Lane, SubmissionState
from tests import sounds
from tests.farms import HandFarm, S
from tests.over_http import served
from tests.servers import Ledgers

ACTOR = Actor("test")
PATIENCE = 60.0  # seconds; nothing waits for them to pass

_T = TypeVar("_T")


class Speech:
    """A farm whose API is served, a client, and what its processes would do meanwhile."""

    def __init__(self, farm: HandFarm, port: int) -> None:
        self.farm = farm
        self.port = port
        self._opened = ExitStack()
        access = Access(farm.farm.database)
        self.key = access.create(ACTOR, "phone", tenant="ada", scopes=["submit"])[1]
        self.reader = access.create(ACTOR, "page", tenant="ada", scopes=["read"])[1]
        self.client = self.client_of(self.key)

    def client_of(self, key: str) -> openai.OpenAI:
        """Somebody's."""
        url = f"http://127.0.0.1:{self.port}/v1"
        client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=PATIENCE)
        return self._opened.enter_context(client)

    def close(self) -> None:
        """All clients'."""
        self._opened.close()

    def join(self, model: str = "pocket", slots: int = 4, **other: Any) -> None:
        """An engine works from now on."""
        engine: dict[str, Any] = {"role": "engine", "state": "working", "model": model, "slots": slots, **other}
        self.farm.farm.fleet.join(Worker(id=f"{model}{slots}", host="here", pid=1, version="1", **engine))

    def asked(self, call: Callable[[], _T], **going: Any) -> _T:
        """What a call returns, while the farm works."""
        with ThreadPoolExecutor(1) as pool:
            future: Future[_T] = pool.submit(call)
            while not future.done():
                self.farm.go(**going)
                time.sleep(0.05)
            return future.result()

    def submission(self) -> Submission:
        """The one there is, as soon as it is there."""
        return until(lambda: next(iter(self.farm.farm.desk.submissions()), None))

    def state(self, id: int) -> SubmissionState:
        """Of a submission."""
        return self.farm.farm.desk.submission(id).state


def until(look: Callable[[], _T | None]) -> _T:
    """What is there in the end."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


@contextmanager
def serving(farm: HandFarm, **settings: str) -> Iterator[Speech]:
    """The API with other settings."""
    names = {f"STENOPOOL_{name}": value for name, value in settings.items()}
    with served(make_app(farm.farm, Config.from_env(names))) as port, closing(Speech(farm, port)) as speech:
        yield speech


@pytest.fixture
def speech(named_farm: HandFarm) -> Iterator[Speech]:
    """With one engine that has `pocket`."""
    with serving(named_farm) as found:
        found.join()
        yield found


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of speech, in several chunks."""
    return sounds.write(tmp_path_factory.mktemp("talks") / "talk.wav", sounds.read(sounds.SAMPLE)[: 60 * S])


def test_the_text_of_a_file(speech: Speech, talk: Path) -> None:
    """Handed in for the key's tenant, before all others; the answer says which submission it was."""
    create = speech.client.audio.transcriptions.with_raw_response.create

    answer = speech.asked(lambda: create(file=talk, model="pocket", language="en"))

    submission = speech.submission()
    assert (submission.name, submission.tenant, submission.lane) == ("talk.wav", "ada", Lane.URGENT)
    assert dict(submission.metadata) == {"api": "openai"}
    assert answer.headers["x-stenopool-recording"] == str(submission.id)
    [text] = speech.farm.texts(submission)
    assert text
    assert answer.parse().text == text
    usage = answer.parse().usage
    assert usage is not None
    assert usage.to_dict() == {"type": "duration", "seconds": 60.0}


def test_what_is_asked_for_is_done(speech: Speech, talk: Path) -> None:
    """Each parameter is an option of the submission."""
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            lambda: speech.client.audio.transcriptions.create(
                file=talk,
                model="whisper-1",
                languages=["en", "de"],
                keywords=["Ada", "Eve"],
                prompt="A meeting.",
                temperature=0.4,
                chunking_strategy="auto",
                response_format="verbose_json",
                timestamp_granularities=["word", "segment"],
            )
        )
        submission = speech.submission()
        speech.farm.farm.desk.cancel(submission.id)
        with pytest.raises(openai.BadRequestError, match="it is cancelled"):
            call.result()
    options = submission.options
    assert (submission.model, options["task"], options["languages"]) == ("pocket", "transcribe", ["en", "de"])
    assert (options["hotwords"], options["initial_prompt"]) == ("Ada, Eve", "A meeting.")
    assert (options["temperature"], options["word_timestamps"]) == ([0.4], True)


def test_a_stream_tells_what_is_certain_before_all_is(speech: Speech, talk: Path) -> None:
    """Chunks in their order, whatever order they are heard in; in the end, what the merged transcript says."""
    events: queue.Queue[Any] = queue.Queue()

    def listen() -> None:
        stream = speech.client.audio.transcriptions.create(file=talk, model="pocket", language="en", stream=True)
        for one in stream:
            events.put(one)
        events.put(None)

    listener = threading.Thread(target=listen)
    listener.start()
    submission = speech.submission()
    speech.farm.ingest()
    speech.farm.admit()
    claims = speech.farm.claim()
    assert len(claims) >= 2
    apart = all(a.span.end <= b.span.start for a, b in pairwise(claims))
    assert apart, "no seam has to be waited for"

    speech.farm.finish(claims[1:], by="later")
    speech.farm.finish(claims[:1], by="first")
    first = events.get(timeout=PATIENCE)
    assert speech.state(submission.id) == SubmissionState.TRANSCRIBING, "nothing is merged yet"
    rest = [events.get(timeout=PATIENCE) for _ in claims[1:]]
    speech.farm.merge()
    done, end = events.get(timeout=PATIENCE), events.get(timeout=PATIENCE)
    listener.join()

    assert [one.type for one in (first, *rest)] == ["transcript.text.delta"] * len(claims)
    assert [one.delta for one in (first, *rest)] == ["first0", *(f" later{claim.index}" for claim in claims[1:])]
    assert (done.type, end) == ("transcript.text.done", None)
    assert done.text == "".join(one.delta for one in (first, *rest))
    assert [done.text] == speech.farm.texts(submission)


def test_what_is_done_already_is_streamed_at_once(speech: Speech, talk: Path) -> None:
    """The same file a second time."""
    create = speech.client.audio.transcriptions.create
    whole = speech.asked(lambda: create(file=talk, model="pocket", language="en"))

    streamed = speech.asked(lambda: list(create(file=talk, model="pocket", language="en", stream=True)))

    assert streamed[-1].type == "transcript.text.done"
    assert streamed[-1].text == whole.text
    assert "".join(one.delta for one in streamed if one.type == "transcript.text.delta") == whole.text


def test_what_cannot_be_decoded_is_a_bad_request(speech: Speech, tmp_path: Path) -> None:
    """Found by ingest, in a process that may crash; named as the client named it. In a stream as well."""
    diary = tmp_path / "diary.mp3"
    diary.write_text("Dear diary")
    create = speech.client.audio.transcriptions.create

    with pytest.raises(openai.BadRequestError, match=r"diary\.mp3: is text, not audio or video") as refused:
        speech.asked(lambda: create(file=diary, model="pocket"))
    assert refused.value.param == "file"
    with pytest.raises(openai.APIError, match=r"diary\.mp3: is text"):
        speech.asked(lambda: list(create(file=diary, model="pocket", stream=True)))
    with pytest.raises(openai.BadRequestError, match="klingon"):
        speech.asked(lambda: create(file=diary, model="pocket", language="klingon"))


def test_gaps_are_told(speech: Speech, talk: Path) -> None:
    """What could not be heard is missing from the text, and a header says how much that is."""
    create = speech.client.audio.transcriptions.with_raw_response.create

    answer = speech.asked(lambda: create(file=talk, model="pocket", language="en"), failing={0})

    assert float(answer.headers["x-stenopool-gap-seconds"]) > 1
    assert answer.parse().text == speech.farm.texts(speech.submission())[0]


def refusals() -> list[Any]:
    """Parameters, the error, which parameter it names, and what it says."""
    bad, gone = openai.BadRequestError, openai.NotFoundError
    return [
        ({"model": "nova"}, gone, "model", "no engine has the model 'nova'; there are pocket"),
        ({"model": ""}, bad, "model", "say which model"),
        ({"include": ["logprobs"]}, bad, "include", "log probabilities"),
        ({"extra_body": {"known_speaker_names": ["Ada"]}}, bad, "known_speaker_names", "not told apart"),
        ({"extra_body": {"colour": "red"}}, bad, "colour", "there is no parameter colour"),
        ({"chunking_strategy": {"type": "server_vad"}}, bad, None, "auto is what there is"),
        ({"response_format": "diarized_json"}, bad, "response_format", "is one of json"),
        ({"timestamp_granularities": ["word"]}, bad, "timestamp_granularities", "verbose_json"),
        (
            {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
            bad,
            "timestamp_granularities",
            "no granularity letter",
        ),
        ({"stream": True, "response_format": "srt"}, bad, "response_format", "what is streamed is text"),
        ({"prompt": "a\0b"}, bad, "prompt", "has a NUL"),
        ({"temperature": 1.5}, bad, "temperature", "from 0 to 1"),
        ({"language": "en", "languages": ["de"]}, bad, "languages", "either language or languages"),
    ]


@pytest.mark.parametrize(("given", "kind", "param", "says"), refusals())
def test_what_is_not_there_is_refused(
    speech_once: Speech, given: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, says: str
) -> None:
    """And not ignored; nothing is handed in."""
    with pytest.raises(kind, match=says) as refused:
        speech_once.client.audio.transcriptions.create(**{"file": ("a.wav", b"RIFF"), "model": "pocket", **given})

    assert refused.value.type == "invalid_request_error"
    if param is not None:
        assert refused.value.param == param
    assert speech_once.farm.farm.desk.submissions() == []


@pytest.fixture(scope="module")
def speech_once(ledgers: Ledgers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speech]:
    """One farm for all that is refused."""
    folder = tmp_path_factory.mktemp("refusing")
    with pytest.MonkeyPatch.context() as patch, ledgers.one() as url:
        farm = HandFarm(open_database(url), FolderStore(folder / "objects"), folder, patch)
        with serving(farm, MAX_GB="0.000002") as found:
            found.join()
            yield found
        farm.farm.close()


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, for all translations
def test_who_may_not_is_told_as_openai_tells_it(speech_once: Speech) -> None:
    """No key, a key that only reads, too large a file, a form that is none."""
    file = ("a.wav", b"RIFF")
    with pytest.raises(openai.AuthenticationError) as refused:
        speech_once.client_of("sp_wrong").audio.transcriptions.create(file=file, model="pocket")
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        speech_once.client_of("sp_wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope submit"):
        speech_once.client_of(speech_once.reader).audio.transcriptions.create(file=file, model="pocket")
    with pytest.raises(openai.APIStatusError, match="STENOPOOL_MAX_GB") as large:
        speech_once.client.audio.transcriptions.create(file=("a.wav", bytes(3000)), model="pocket")
    assert large.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="multipart/form-data"):
        speech_once.client.post("/audio/transcriptions", cast_to=object, body={"model": "pocket"})
    with pytest.raises(openai.BadRequestError, match="there is no parameter stream"):
        speech_once.client.audio.translations.create(file=file, model="pocket", extra_body={"stream": "true"})
    assert speech_once.farm.farm.desk.submissions() == []


def test_models_are_those_of_engines_that_work(named_farm: HandFarm) -> None:
    """The one with most slots is what whisper-1 means; without any, there is none to wait for."""
    with serving(named_farm) as speech:
        assert speech.client.models.list().data == []
        with pytest.raises(openai.InternalServerError, match="no engine works now"):
            speech.client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="whisper-1")

        speech.join("openai/whisper-tiny", 2)
        speech.join("pocket", 8)
        speech.join("large", 64, state="starting")

        assert [one.id for one in speech.client.models.list()] == ["pocket", "openai/whisper-tiny"]
        assert speech.client.models.retrieve("openai/whisper-tiny").object == "model"
        assert speech.client.models.retrieve("whisper-1").id == "pocket"
        with pytest.raises(openai.NotFoundError):
            speech.client.models.retrieve("large")


def test_who_has_waited_long_enough_is_told_where_it_will_be(named_farm: HandFarm) -> None:
    """It goes on; the client does not send it again."""
    silence = np.zeros((1, S), np.int16)
    path = sounds.write(named_farm._folder / "silence.wav", silence)
    with serving(named_farm, SPEECH_WAIT="1") as speech:
        speech.join()
        with pytest.raises(openai.InternalServerError, match=r"GET /v1/recordings/1") as late:
            speech.client.audio.transcriptions.create(file=path, model="pocket")

        assert (late.value.status_code, late.value.code) == (504, "timeout")
        assert late.value.response.headers["x-stenopool-recording"] == "1"
        assert late.value.response.headers["x-should-retry"] == "false"
        assert speech.state(1) == SubmissionState.ACCEPTED


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_client_that_goes_away_cancels_it(speech: Speech, stream: str) -> None:
    """Nothing more is done for nobody."""
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % field
        for field in ((b"model", b"pocket"), (b"stream", stream.encode()))
    )
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n'
    connection = http.client.HTTPConnection("127.0.0.1", speech.port)
    headers = {"Authorization": f"Bearer {speech.key}", "Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", "/v1/audio/transcriptions", form, headers)
    submission = speech.submission()
    assert speech.state(submission.id) == SubmissionState.ACCEPTED

    connection.close()

    until(lambda: speech.state(submission.id) == SubmissionState.CANCELLED)
