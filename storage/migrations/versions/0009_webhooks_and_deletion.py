"""Webhooks; how long things are kept, what is held, what was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.create_index(op.f("ix_submissions_file_sha256"), "submissions", ["file_sha256"])
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column(
            "uid", sa.String(length=32), nullable=False, comment="in the ids of what is sent to it: no other endpoint's"
        ),
        sa.Column("types", sa.JSON(), nullable=True, comment="of events; null: all"),
        sa.Column("secret", sa.String(), nullable=False, comment="signs; as it was shown once"),
        sa.Column(
            "former_secret",
            sa.String(),
            nullable=True,
            comment="signs as well, while receivers change to the other",
        ),
        sa.Column("former_until", sa.Double(), nullable=True, comment="database clock; until then"),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(), nullable=True, comment="how it failed the last time, in one line"),
        sa.Column("position", sa.Integer(), nullable=False, comment="events up to this one have their deliveries"),
        sa.Column(
            "failures",
            sa.SmallInteger(),
            nullable=False,
            comment="one after the other, without a delivery in between",
        ),
        sa.Column(
            "failing_since",
            sa.Double(),
            nullable=True,
            comment="database clock; null where the last one went well",
        ),
        sa.Column("not_before", sa.Double(), nullable=True, comment="database clock; until then it is left alone"),
        sa.Column("turn_at", sa.Double(), nullable=True, comment="database clock; when it had its last turn"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "deliveries",
        sa.Column("endpoint_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False, comment="of the event"),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="times it was sent, as far as is known"),
        sa.Column("not_before", sa.Double(), nullable=True, comment="database clock; it is tried again then"),
        sa.Column("status", sa.SmallInteger(), nullable=True, comment="of the last answer"),
        sa.Column("error", sa.String(), nullable=True, comment="why the last attempt failed, in one line"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock; of its last change"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_deliveries_endpoint_id")),
        sa.PrimaryKeyConstraint("endpoint_id", "position", name=op.f("pk_deliveries")),
    )
    for name, columns, which in (
        ("ix_deliveries_waiting", ["endpoint_id", "attempts", "position"], "state = 'waiting'"),
        ("ix_deliveries_done", ["at"], "state <> 'waiting'"),
    ):
        op.create_index(name, "deliveries", columns, postgresql_where=sa.text(which), sqlite_where=sa.text(which))
    op.create_table(
        "retention",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Double(), nullable=True, comment="seconds after the submission's end"),
        sa.Column("pcm", sa.Double(), nullable=True, comment="seconds after the transcript's completion"),
        sa.Column("chunks", sa.Double(), nullable=True, comment="seconds after the transcript's completion"),
        sa.Column(
            "transcript",
            sa.Double(),
            nullable=True,
            comment="seconds after the submission's end: then it is deleted",
        ),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_retention")),
    )
    op.create_table(
        "holds",
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False, comment="who asked for it"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_holds_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_holds")),
    )
    op.create_table(
        "deletions",
        sa.Column("submission_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False, comment="who asked for it"),
        sa.Column("asked_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("erased_at", sa.Double(), nullable=True, comment="database clock; when its rows went"),
        sa.Column("completed_at", sa.Double(), nullable=True, comment="database clock; when all was gone"),
        sa.Column("error", sa.String(), nullable=True, comment="what keeps it from being completed, in one line"),
        sa.Column(
            "keys", sa.JSON(), nullable=False, comment="of objects, and what they lie below: to be removed still"
        ),
        sa.Column("receipt", sa.JSON(), nullable=False, comment="what was removed, and what was kept, and why"),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_deletions_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_deletions")),
    )
    op.add_column(
        "transcripts",
        sa.Column(
            "forgotten",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="what was heard in its chunks is no longer kept",
        ),
    )


def downgrade() -> None:
    """Back from it."""
    op.drop_index(op.f("ix_submissions_file_sha256"), "submissions")
    with op.batch_alter_table("transcripts", schema=None) as batch_op:
        batch_op.drop_column("forgotten")
    for table in ("deletions", "holds", "retention", "deliveries", "endpoints"):
        op.drop_table(table)
