"""Traces: one for each submission, from handing in to publication, sent where OTEL_EXPORTER_OTLP_ENDPOINT says.

    recording ─┬─ ingest ── plan
               ├─ transcribe ◄─ linked ─► batch      one for each chunk; a batch has chunks of many recordings
               ├─ merge
               └─ publish

A trace's id is made from the submission, so that every process knows it without being told. Where no endpoint is set,
nothing of OpenTelemetry is imported, and nothing is done. Spans have ids, counts and seconds: no names, no texts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from stenopool.errors import UsageError
from stenopool.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

#: What a span may say of itself.
Value = str | int | float | bool
Attributes = Mapping[str, Value]

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class Origin(NamedTuple):
    """The submission that a trace is of."""

    submission: int
    #: Seconds since 1970, by the database's clock: two farms may both have a submission 7.
    created_at: float

    @property
    def trace_id(self) -> int:
        """Of its trace, 128 bits."""
        return int.from_bytes(self._digest()[:16], "big") or 1

    @property
    def span_id(self) -> int:
        """Of the span that all others are below, 64 bits."""
        return int.from_bytes(self._digest()[16:24], "big") or 1

    def _digest(self) -> bytes:
        return hashlib.sha256(f"stenopool submission {self.submission} of {self.created_at!r}".encode()).digest()


#: Ids for the span that is about to be made, where they are not to be random.
_next: ContextVar[Origin | None] = ContextVar("next", default=None)


@contextmanager
def tracing(endpoint: str | None, role: str) -> Iterator[None]:
    """Meanwhile this process sends its spans there; nothing where it is None.

    Raises:
        UsageError: what is needed for it is not installed.
    """
    global _provider, _tracer
    if endpoint is None:
        yield
        return
    _provider = _made(endpoint, role)
    _tracer = _provider.get_tracer("stenopool", __version__)
    try:
        yield
    finally:
        _tracer = None
        _provider.shutdown()  # sends what is left
        _provider = None


def _made(endpoint: str, role: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError:
        raise UsageError(
            'OTEL_EXPORTER_OTLP_ENDPOINT is set, and traces need more: pip install "stenopool[trace]"'
        ) from None

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return origin.trace_id if (origin := _next.get()) else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return origin.span_id if (origin := _next.get()) else super().generate_span_id()

    names = {
        "service.name": "stenopool",
        "service.version": __version__,
        "service.instance.id": f"{role}-{os.getpid()}",
        "stenopool.role": role,
    }
    # A part of a trace is no use, and each process would choose another: whoever wants fewer has the collector choose.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(names), id_generator=Ids())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return provider


def is_on() -> bool:
    """Whether anybody is told: else nothing need be found out for it."""
    return _tracer is not None


def span(
    name: str, origin: Origin | None = None, **attributes: str | int | float | bool
) -> AbstractContextManager[Any]:
    """Meanwhile something is done for a submission; without one, for whatever this thread is at."""
    if _tracer is None:
        return nullcontext()
    context = None if origin is None else _below(origin)
    return _tracer.start_as_current_span(
        name, context, attributes=_named(attributes), record_exception=False, set_status_on_exception=True
    )


def failed(reason: str) -> None:
    """What this thread is at has failed: the kind of error, not its message, which may name files."""
    if _tracer is not None:
        from opentelemetry.trace import Status, StatusCode, get_current_span

        get_current_span().set_status(Status(StatusCode.ERROR, reason))


def recorded(origin: Origin, state: str, ended_at: float, **attributes: Value) -> None:
    """A submission has ended: the span above all others of it."""
    if _tracer is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Status, StatusCode

    token = _next.set(origin)
    try:
        about = _named({"submission": origin.submission, "state": state, **attributes})
        whole = _tracer.start_span("recording", Context(), attributes=about, start_time=_nanoseconds(origin.created_at))
    finally:
        _next.reset(token)
    if state == "failed":
        whole.set_status(Status(StatusCode.ERROR))
    whole.end(_nanoseconds(max(ended_at, origin.created_at)))


class Batch:
    """Chunks that are decoded together: a span, and one for each chunk in its own recording's trace, with links."""

    def __init__(self) -> None:
        self._whole: Span | None = None
        self._chunks: dict[object, Span] = {}

    def begin(self, chunks: Mapping[Any, tuple[Origin | None, Attributes]]) -> None:
        """These are begun, by their keys: whose each is, as far as that is known, and what is to be said of it."""
        if _tracer is None:
            return
        from opentelemetry.context import Context

        if self._whole is None:
            self._whole = _tracer.start_span("batch", Context(), attributes=_named({"chunks": len(chunks)}))
        batch = self._whole.get_span_context()
        for key, (origin, attributes) in chunks.items():
            context = Context() if origin is None else _below(origin)
            one = _tracer.start_span("transcribe", context, attributes=_named(attributes))
            one.add_link(batch)
            self._whole.add_link(one.get_span_context())
            self._chunks[key] = one

    def end(self, key: object, outcome: str) -> None:
        """One of them is done, or is not."""
        if (one := self._chunks.pop(key, None)) is not None:
            one.set_attribute("stenopool.outcome", outcome)
            one.end()

    def close(self) -> None:
        """All of it has ended."""
        for key in list(self._chunks):
            self.end(key, "given_back")
        if self._whole is not None:
            self._whole.end()


def _below(origin: Origin) -> Context:
    """A submission's trace, below the span that is made when it ends."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    above = SpanContext(origin.trace_id, origin.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(above), Context())


def _named(attributes: Attributes) -> dict[str, Value]:
    return {f"stenopool.{name}": value for name, value in attributes.items()}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
