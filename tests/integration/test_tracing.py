"""Traces, as a receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from stenopool.errors import UsageError
from stenopool.tracing import Origin, tracing
from tests.farms import HandFarm
from tests.standin import StandIn
from workers.engine import EngineWorker

ROOT = Path(__file__).parents[2]


class Receiver:
    """A collector, as far as it takes spans."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        """All that came."""
        found = []
        for body in self.bodies:
            request = ExportTraceServiceRequest.FromString(body)
            found += [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        return found

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that is there."""
    one = Receiver()
    yield one
    one.close()


def go(farm: HandFarm) -> None:
    """All there is to do, with an engine's worker."""
    farm.ingest()
    farm.admit()
    [(key, _)] = farm.window.ready()
    worker = EngineWorker(farm.farm, "engine", StandIn(), key)  # type: ignore[arg-type]
    worker.transcribe([], suspect=False)
    hints = farm.window.hints(key, 1, 100, -1)
    worker.transcribe([(hint.transcript, hint.index) for hint in hints], suspect=False)
    worker.close()
    farm.merge()
    farm.publish()


def said_of(span: Span) -> dict[str, object]:
    """Its attributes."""
    return {
        one.key.removeprefix("stenopool."): getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes
    }


def test_a_recording_has_one_trace(hand_farm: HandFarm, receiver: Receiver) -> None:
    """From handing in to publication, whoever does what; a batch is linked to its chunks, and they to it."""
    first, second = hand_farm.submit(4), hand_farm.submit(6)
    with tracing(receiver.url, "test"):
        go(hand_farm)

    spans = receiver.spans()
    batches = [span for span in spans if span.name == "batch"]
    for submission, chunks in ((first, 2), (second, 3)):
        origin = Origin(submission.id, submission.created_at)
        mine = [span for span in spans if int.from_bytes(span.trace_id, "big") == origin.trace_id]
        assert sorted(span.name for span in mine) == sorted(
            ["recording", "ingest", "plan", *["transcribe"] * chunks, "merge", "publish"]
        )
        by_name = {span.name: span for span in mine}
        whole = by_name["recording"]
        assert int.from_bytes(whole.span_id, "big") == origin.span_id
        assert not whole.parent_span_id
        assert by_name["plan"].parent_span_id == by_name["ingest"].span_id
        assert {span.parent_span_id for span in mine if span.name not in ("recording", "plan")} == {whole.span_id}
        assert all(whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in mine)
        assert said_of(whole)["state"] == "completed"
        heard = [span for span in mine if span.name == "transcribe"]
        assert sorted(said_of(span)["chunk"] for span in heard) == list(range(chunks))  # type: ignore[type-var]
        assert {said_of(span)["outcome"] for span in heard} == {"done"}
        linked = {link.span_id for batch in batches for link in batch.links}
        assert {span.span_id for span in heard} <= linked
        assert {link.span_id for span in heard for link in span.links} <= {batch.span_id for batch in batches}


def test_what_fails_is_said_to(hand_farm: HandFarm, receiver: Receiver, tmp_path: Path) -> None:
    """By the kind of error, in the span and above; no name and no text is in any span."""
    (tmp_path / "secret-name.wav").write_bytes(b"RIFF of nothing")
    broken = hand_farm.order(tmp_path / "secret-name.wav")
    with tracing(receiver.url, "test"):
        hand_farm.ingest()

    assert hand_farm.now(broken).state == "failed"
    by_name = {span.name: span for span in receiver.spans()}
    assert by_name["ingest"].status.code == by_name["recording"].status.code == 2
    assert by_name["ingest"].status.message == "MediaUnreadable"
    assert not any(b"secret" in body for body in receiver.bodies)


def test_no_text_is_in_a_span(hand_farm: HandFarm, receiver: Receiver) -> None:
    """What was heard stays where it is."""
    submission = hand_farm.submit(4)
    with tracing(receiver.url, "test"):
        go(hand_farm)

    words = {"alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", submission.name, "ada"}
    assert receiver.bodies
    assert [word for word in words if any(word.encode() in body for body in receiver.bodies)] == []


def test_nothing_is_imported_where_there_are_none() -> None:
    """Nor is anything asked, or slowed."""
    program = """
import sys
import stenopool.cli.farm, workers.tasks, workers.engine
from stenopool.tracing import Batch, Origin, recorded, span, tracing
with tracing(None, "engine"), span("ingest", Origin(1, 2.0), submission=1):
    Batch().begin({1: (None, {})})
    recorded(Origin(1, 2.0), "completed", 3.0)
# Where it is installed, redis-py imports some of it by itself.
sys.exit(any(name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter")) for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_an_endpoint_without_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said in a line, before any work is begun."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(UsageError, match=r'pip install "stenopool\[trace\]"$'), tracing("http://127.0.0.1:1", "engine"):
        pass


def test_the_same_submission_has_the_same_trace() -> None:
    """In whichever process; another farm's of the same number has another."""
    assert Origin(7, 12.5).trace_id == Origin(7, 12.5).trace_id
    assert len({Origin(7, 12.5).trace_id, Origin(8, 12.5).trace_id, Origin(7, 12.6).trace_id}) == 3
    assert 0 < Origin(7, 12.5).span_id < 2**64
