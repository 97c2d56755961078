"""The metrics: each with its name, kind, labels, and who has it. docs/metrics.md lists them as they stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Before every name.
PREFIX = "stenopool_"

#: Who has a metric: whoever looks at the ledger (the API, a scheduler), a scheduler, an engine, whoever does tasks
#: (every worker), every process.
Holder = Literal["ledger", "scheduler", "engine", "worker", "process"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as the docs list it; its name has no prefix, and a counter's no `_total`."""

    short: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    of: Holder
    help: str

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"{PREFIX}{self.short}{'_total' if self.kind == 'counter' else ''}"


METRICS = (
    Metric("ledger_up", "gauge", (), "ledger", "1 where the database answers, else 0, and all others of it are absent"),
    Metric("ready_chunks", "gauge", ("lane",), "ledger", "chunks that are ready, and that nobody does yet"),
    Metric("ready_audio_seconds", "gauge", ("lane",), "ledger", "seconds of sound in them"),
    Metric(
        "oldest_ready_age_seconds", "gauge", ("lane",), "ledger", "since the first of their transcripts was planned"
    ),
    Metric(
        "open_audio_seconds",
        "gauge",
        ("lane",),
        "ledger",
        "seconds of sound planned and not heard, the ready among them",
    ),
    Metric(
        "accepted_recordings",
        "gauge",
        ("lane",),
        "ledger",
        "submissions that wait to be decoded; 10000 stands for more",
    ),
    Metric("workers", "gauge", ("role", "state"), "ledger", "processes, as they said of themselves"),
    Metric(
        "worker_heartbeat_age_seconds",
        "gauge",
        ("role",),
        "ledger",
        "since the one was seen that was not seen for longest",
    ),
    Metric("outbox_oldest_seconds", "gauge", (), "ledger", "that the oldest event has waited for its number"),
    Metric(
        "quarantined_chunks", "gauge", (), "ledger", "gaps because workers died with the chunk; looked at once a minute"
    ),
    Metric(
        "invariant_violations",
        "gauge",
        ("invariant",),
        "ledger",
        "rows that break a promise: a bug; looked at once a minute",
    ),
    Metric("dead_tuple_ratio", "gauge", ("table",), "ledger", "share of a table's rows that vacuum has to remove"),
    Metric("oldest_transaction_seconds", "gauge", (), "ledger", "age of the database's oldest transaction"),
    Metric("broker_up", "gauge", (), "ledger", "1 where Redis answers and takes writes, else 0"),
    Metric("broker_memory_bytes", "gauge", (), "ledger", "that Redis holds"),
    Metric("broker_memory_limit_bytes", "gauge", (), "ledger", "that Redis may hold; absent where there is no limit"),
    Metric("recordings", "counter", ("state", "lane"), "scheduler", "submissions that came to a state"),
    Metric("queue_wait_seconds", "histogram", ("lane",), "scheduler", "from handing in until its chunks were planned"),
    Metric("recording_e2e_seconds", "histogram", ("lane",), "scheduler", "from handing in until it was published"),
    Metric("lease_expired", "counter", (), "scheduler", "chunks whose worker died with them, or was taken for dead"),
    Metric(
        "sweeper_last_run_timestamp_seconds",
        "gauge",
        (),
        "scheduler",
        "when it last looked for expired leases; 0: never",
    ),
    Metric("scheduler_leading", "gauge", (), "scheduler", "1 where this scheduler leads"),
    Metric("chunks", "counter", ("outcome",), "engine", "done, gap, given_back, refused; a scheduler's: quarantined"),
    Metric("fence_rejected", "counter", (), "engine", "results that came when their lease was lost"),
    Metric("slots", "gauge", (), "engine", "chunks that it decodes at once, at most"),
    Metric("batch_size", "histogram", (), "engine", "chunks in its slots, each time that it went on with them"),
    Metric("batch_fill_ratio", "gauge", (), "engine", "share of its slots' steps in which one was decoding, lately"),
    Metric("padding_ratio", "gauge", (), "engine", "share of the encoder's windows without sound, lately"),
    Metric(
        "inference_seconds",
        "counter",
        ("phase",),
        "engine",
        "load: weights; compile: programs; run: encoder and decoder",
    ),
    Metric("busy_seconds", "counter", (), "engine", "in which it had work"),
    Metric("audio_seconds", "counter", (), "engine", "seconds of recordings that it has transcribed"),
    Metric(
        "realtime_factor", "gauge", (), "engine", "seconds of work for a second of recordings, lately; less is faster"
    ),
    Metric("compile", "counter", (), "engine", "programs that were compiled, or read from the cache"),
    Metric("gpu_oom", "counter", (), "engine", "times that the device had no room"),
    Metric(
        "engine_stalled_seconds", "gauge", (), "engine", "since its device last came back; 0 where it has nothing to do"
    ),
    Metric(
        "tasks",
        "counter",
        ("task", "outcome"),
        "worker",
        "hints that were followed: done, or failed with an error of ours",
    ),
    Metric("task_seconds", "counter", ("task",), "worker", "seconds that they took"),
    Metric("build_info", "gauge", ("version", "role"), "process", "always 1"),
)

#: By their short names.
BY_NAME = {metric.short: metric for metric in METRICS}
