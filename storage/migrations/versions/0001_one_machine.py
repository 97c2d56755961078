"""One machine: recordings, their transcripts, chunks and silences. The first schema that was released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(length=64), nullable=False, comment="SHA-256 of the decoded samples"),
        sa.Column("duration", sa.Integer(), nullable=False, comment="samples at 16 kHz"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock, seconds since 1970"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    op.create_table(
        "sources",
        sa.Column("file_sha256", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False, comment="from 1; 0: all channels mixed"),
        sa.Column("channels", sa.Integer(), nullable=False, comment="how many rows of this file belong together"),
        sa.Column("recording_id", sa.String(length=64), nullable=False),
        sa.Column("ended_early", sa.String(), nullable=True, comment="why the file ended before its own end"),
        sa.Column("damaged", sa.Integer(), nullable=False, comment="packets that did not decode and became silence"),
        sa.ForeignKeyConstraint(["recording_id"], ["recordings.id"], name=op.f("fk_sources_recording_id")),
        sa.PrimaryKeyConstraint("file_sha256", "channel", name=op.f("pk_sources")),
    )
    op.create_table(
        "transcripts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("recording_id", sa.String(length=64), nullable=False),
        sa.Column(
            "work_digest",
            sa.String(length=64),
            nullable=False,
            comment="model, options and engine: what else is other work",
        ),
        sa.Column("generation", sa.Integer(), nullable=False, comment="from 1; a forced re-run makes the next"),
        sa.Column("provenance", sa.JSON(), nullable=False, comment="model, digest, dtype, options, version"),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column(
            "sequential", sa.Boolean(), nullable=False, comment="each chunk is told what was heard in the one before"
        ),
        sa.Column("language", sa.String(length=16), nullable=True, comment="null until it is detected"),
        sa.Column("language_probability", sa.Double(), nullable=True, comment="null where it was given"),
        sa.Column("chunks_total", sa.Integer(), nullable=False),
        sa.Column(
            "chunks_open",
            sa.Integer(),
            nullable=False,
            comment="counts down in the transaction that finishes a chunk; 0: merge",
        ),
        sa.Column("fence", sa.Integer(), nullable=False, comment="raised by whoever begins the merge"),
        sa.Column("document", sa.JSON(), nullable=True, comment="segments and coverage, once merged"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("completed_at", sa.Double(), nullable=True, comment="database clock"),
        sa.ForeignKeyConstraint(["recording_id"], ["recordings.id"], name=op.f("fk_transcripts_recording_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcripts")),
        sa.UniqueConstraint(
            "recording_id", "work_digest", "generation", name=op.f("uq_transcripts_recording_id_work_digest_generation")
        ),
    )
    op.create_table(
        "chunks",
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("end", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("speech", sa.JSON(), nullable=True, comment="[start, end] of each run; null without VAD"),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("carried", sa.JSON(), nullable=True, comment="what the chunk before it tells"),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="times it was claimed"),
        sa.Column(
            "fence",
            sa.Integer(),
            nullable=False,
            comment="raised at each claim; a result under an older one is refused",
        ),
        sa.Column("worker", sa.String(length=80), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True, comment="database clock; after it, the claim is void"),
        sa.Column("result", sa.JSON(), nullable=True, comment="what the engine heard"),
        sa.ForeignKeyConstraint(["transcript_id"], ["transcripts.id"], name=op.f("fk_chunks_transcript_id")),
        sa.PrimaryKeyConstraint("transcript_id", "index", name=op.f("pk_chunks")),
    )
    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chunks_state_lease_until"), ["state", "lease_until"], unique=False)
        batch_op.create_index(batch_op.f("ix_chunks_transcript_id_state"), ["transcript_id", "state"], unique=False)

    op.create_table(
        "silences",
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("end", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("score", sa.Double(), nullable=False, comment="highest speech probability inside"),
        sa.ForeignKeyConstraint(["transcript_id"], ["transcripts.id"], name=op.f("fk_silences_transcript_id")),
        sa.PrimaryKeyConstraint("transcript_id", "start", name=op.f("pk_silences")),
    )


def downgrade() -> None:
    """Back from it."""
    op.drop_table("silences")
    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_chunks_transcript_id_state"))
        batch_op.drop_index(batch_op.f("ix_chunks_state_lease_until"))

    op.drop_table("chunks")
    op.drop_table("transcripts")
    op.drop_table("sources")
    op.drop_table("recordings")
