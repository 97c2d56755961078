"""The farm: tenants and their shares, submissions, workers, lanes and ranks, crashes and hints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """To this revision."""
    op.execute("DROP TABLE IF EXISTS meta")  # where the schema's number stood before there were migrations
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False, comment="share of the farm beside the others'"),
        sa.Column(
            "max_queued", sa.Integer(), nullable=True, comment="submissions that may be open at once; null: any number"
        ),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column(
            "role", sa.String(length=64), nullable=False, comment="engine, scheduler, or of ingest, merge, publish some"
        ),
        sa.Column("host", sa.String(), nullable=False, comment="of the machine it runs on"),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False, comment="of Stenopool"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="starting, working or draining"),
        sa.Column("model", sa.String(), nullable=True, comment="an engine's, as it was named"),
        sa.Column("model_digest", sa.String(length=64), nullable=True),
        sa.Column("dtype", sa.String(length=16), nullable=True),
        sa.Column("engine_key", sa.String(length=64), nullable=True, comment="of the chunks that it decodes"),
        sa.Column("slots", sa.Integer(), server_default="0", nullable=False, comment="chunks that it decodes at once"),
        sa.Column("started_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("seen_at", sa.Double(), nullable=False, comment="database clock"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "shares",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "virtual_time", sa.Double(), nullable=False, comment="seconds of audio admitted, over the tenant's weight"
        ),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_shares_tenant")),
        sa.PrimaryKeyConstraint("tenant", "lane", name=op.f("pk_shares")),
    )
    op.create_table(
        "submissions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="what people call it, and its outputs are named after"),
        sa.Column("source", sa.String(), nullable=False, comment="key of the file in the object store"),
        sa.Column("file_sha256", sa.String(length=64), nullable=False, comment="of the file's bytes"),
        sa.Column(
            "idempotency_key", sa.String(length=200), nullable=True, comment="a second submission with it is the first"
        ),
        sa.Column("model", sa.String(), nullable=False, comment="as it was named"),
        sa.Column("options", sa.JSON(), nullable=False, comment="what changes the text, besides the model"),
        sa.Column("split", sa.Boolean(), nullable=False, comment="a transcript per channel; else they are mixed"),
        sa.Column("again", sa.Boolean(), nullable=False, comment="done again though it is done"),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False, comment="within tenant and lane, the higher first"),
        sa.Column("deadline_at", sa.Double(), nullable=True, comment="database clock; the earlier first"),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=True, comment="samples of all its transcripts, once decoded"),
        sa.Column("error", sa.String(), nullable=True, comment="why it failed, in one line"),
        sa.Column("attempt", sa.SmallInteger(), nullable=False, comment="times it was claimed for the present stage"),
        sa.Column(
            "fence", sa.Integer(), nullable=False, comment="raised at each claim; who comes with an older one is late"
        ),
        sa.Column("worker", sa.String(length=80), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True, comment="database clock; after it, the claim is void"),
        sa.Column(
            "not_before", sa.Double(), nullable=True, comment="database clock; it failed, and is tried again then"
        ),
        sa.Column("hinted_at", sa.Double(), nullable=True, comment="database clock; when a worker was last told of it"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("ended_at", sa.Double(), nullable=True, comment="database clock"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name=op.f("fk_submissions_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
        sa.UniqueConstraint("tenant", "idempotency_key", name=op.f("uq_submissions_tenant_idempotency_key")),
    )
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_submissions_state_lane_id"), ["state", "lane", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_submissions_tenant_state"), ["tenant", "state"], unique=False)

    op.create_table(
        "submission_transcripts",
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Integer(), autoincrement=False, nullable=False, comment="from 1; 0: all mixed"),
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_submission_transcripts_submission_id")
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name=op.f("fk_submission_transcripts_transcript_id")
        ),
        sa.PrimaryKeyConstraint("submission_id", "channel", name=op.f("pk_submission_transcripts")),
    )
    with op.batch_alter_table("submission_transcripts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_submission_transcripts_transcript_id"), ["transcript_id"], unique=False)

    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "engine_key", sa.String(length=64), server_default="", nullable=False, comment="as its transcript's"
            )
        )
        batch_op.add_column(sa.Column("lane", sa.SmallInteger(), nullable=True, comment="as its transcript's"))
        batch_op.add_column(
            sa.Column(
                "rank", sa.BigInteger(), server_default="0", nullable=False, comment="within the lane, the lower first"
            )
        )
        batch_op.add_column(
            sa.Column(
                "crashes",
                sa.SmallInteger(),
                server_default="0",
                nullable=False,
                comment="leases of it that ran out; from 1 on it is decoded apart",
            )
        )
        batch_op.add_column(
            sa.Column(
                "hinted_at", sa.Double(), nullable=True, comment="database clock; when a worker was last told of it"
            )
        )
        batch_op.drop_index(batch_op.f("ix_chunks_state_lease_until"))
        batch_op.create_index(
            "ix_chunks_leased",
            ["lease_until"],
            unique=False,
            postgresql_where=sa.text("state = 'leased'"),
            sqlite_where=sa.text("state = 'leased'"),
        )
        batch_op.create_index(
            "ix_chunks_ready",
            ["engine_key", "lane", "rank", "transcript_id", "index"],
            unique=False,
            postgresql_where=sa.text("state = 'ready'"),
            sqlite_where=sa.text("state = 'ready'"),
        )

    with op.batch_alter_table("transcripts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("tenant", sa.String(length=64), server_default="", nullable=False, comment="empty on one machine")
        )
        batch_op.add_column(
            sa.Column(
                "engine_key",
                sa.String(length=64),
                server_default="",
                nullable=False,
                comment="which engines can decode it",
            )
        )
        batch_op.add_column(
            sa.Column(
                "lane",
                sa.SmallInteger(),
                nullable=True,
                comment="null on one machine: its chunks are ready without being admitted",
            )
        )
        batch_op.add_column(
            sa.Column(
                "priority",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="within tenant and lane, the higher first",
            )
        )
        batch_op.add_column(
            sa.Column("deadline_at", sa.Double(), nullable=True, comment="database clock; the earlier first")
        )
        batch_op.add_column(
            sa.Column(
                "paused",
                sa.Boolean(),
                server_default=sa.false(),
                nullable=False,
                comment="none of its chunks is admitted",
            )
        )
        batch_op.add_column(
            sa.Column("chunks_waiting", sa.Integer(), server_default="0", nullable=False, comment="not admitted yet")
        )
        batch_op.add_column(
            sa.Column("elector", sa.String(length=80), nullable=True, comment="worker that detects its language")
        )
        batch_op.add_column(
            sa.Column(
                "lease_until",
                sa.Double(),
                nullable=True,
                comment="database clock; after it, another may detect or merge",
            )
        )
        batch_op.add_column(
            sa.Column(
                "hinted_at", sa.Double(), nullable=True, comment="database clock; when a worker was last told of it"
            )
        )
        batch_op.drop_constraint(batch_op.f("uq_transcripts_recording_id_work_digest_generation"), type_="unique")
        batch_op.create_index(batch_op.f("ix_transcripts_recording_id_state"), ["recording_id", "state"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_transcripts_state_lane_engine_key"), ["state", "lane", "engine_key"], unique=False
        )
        batch_op.create_unique_constraint(
            batch_op.f("uq_transcripts_tenant_recording_id_work_digest_generation"),
            ["tenant", "recording_id", "work_digest", "generation"],
        )

    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE chunks SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01)")


def downgrade() -> None:
    """Back from it."""
    with op.batch_alter_table("transcripts", schema=None) as batch_op:
        batch_op.drop_constraint(
            batch_op.f("uq_transcripts_tenant_recording_id_work_digest_generation"), type_="unique"
        )
        batch_op.drop_index(batch_op.f("ix_transcripts_state_lane_engine_key"))
        batch_op.drop_index(batch_op.f("ix_transcripts_recording_id_state"))
        batch_op.create_unique_constraint(
            batch_op.f("uq_transcripts_recording_id_work_digest_generation"),
            ["recording_id", "work_digest", "generation"],
        )
        batch_op.drop_column("hinted_at")
        batch_op.drop_column("lease_until")
        batch_op.drop_column("elector")
        batch_op.drop_column("chunks_waiting")
        batch_op.drop_column("paused")
        batch_op.drop_column("deadline_at")
        batch_op.drop_column("priority")
        batch_op.drop_column("lane")
        batch_op.drop_column("engine_key")
        batch_op.drop_column("tenant")

    with op.batch_alter_table("chunks", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_chunks_ready", postgresql_where=sa.text("state = 'ready'"), sqlite_where=sa.text("state = 'ready'")
        )
        batch_op.drop_index(
            "ix_chunks_leased", postgresql_where=sa.text("state = 'leased'"), sqlite_where=sa.text("state = 'leased'")
        )
        batch_op.create_index(batch_op.f("ix_chunks_state_lease_until"), ["state", "lease_until"], unique=False)
        batch_op.drop_column("hinted_at")
        batch_op.drop_column("crashes")
        batch_op.drop_column("rank")
        batch_op.drop_column("lane")
        batch_op.drop_column("engine_key")

    with op.batch_alter_table("submission_transcripts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_submission_transcripts_transcript_id"))

    op.drop_table("submission_transcripts")
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_submissions_tenant_state"))
        batch_op.drop_index(batch_op.f("ix_submissions_state_lane_id"))

    op.drop_table("submissions")
    op.drop_table("shares")
    op.drop_table("workers")
    op.drop_table("tenants")
