"""Campaigns, the feeds that they follow, and what engines do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(), nullable=False, comment="as of its submissions, as is what follows"),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("split", sa.Boolean(), nullable=False),
        sa.Column("speakers", sa.JSON(), nullable=False),
        sa.Column("destination", sa.String(), nullable=True),
        sa.Column("formats", sa.JSON(), nullable=False),
        sa.Column("redact", sa.String(), nullable=True),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=True, comment="seconds from its start in which it is due"),
        sa.Column("deadline_at", sa.Double(), nullable=True, comment="database clock"),
        sa.Column("budget", sa.Double(), nullable=True, comment="engine-hours; what would take more is not handed in"),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("forecast", sa.JSON(), nullable=True, comment="the first one, made as it was started"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("started_at", sa.Double(), nullable=True, comment="database clock"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_campaigns_tenant_name")),
    )
    _items()
    op.create_table(
        "feed_pages",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("etag", sa.String(), nullable=True),
        sa.Column("last_modified", sa.String(), nullable=True),
        sa.Column("following", sa.String(), nullable=True, comment="URL of the next page"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_feed_pages_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "url", name=op.f("pk_feed_pages")),
    )
    op.create_table(
        "throughput",
        sa.Column("worker", sa.String(length=80), nullable=False),
        sa.Column("began", sa.BigInteger(), autoincrement=False, nullable=False, comment="seconds since 1970"),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("audio", sa.Double(), nullable=False, comment="seconds of recordings that it has transcribed"),
        sa.Column("busy", sa.Double(), nullable=False, comment="seconds in which it had work"),
        sa.PrimaryKeyConstraint("worker", "began", name=op.f("pk_throughput")),
    )
    op.create_index(op.f("ix_throughput_model_began"), "throughput", ["model", "began"])
    # No foreign keys: SQLite would make the whole table anew for one.
    op.add_column("submissions", sa.Column("campaign_id", sa.Integer(), nullable=True, comment="that it belongs to"))
    op.create_index(op.f("ix_submissions_campaign_id_state"), "submissions", ["campaign_id", "state"])
    op.add_column(
        "workers",
        sa.Column(
            "speed", sa.Double(), nullable=True, comment="times real time, alone with one chunk, as it was begun"
        ),
    )


def _items() -> None:
    op.create_table(
        "campaign_items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column(
            "key", sa.String(length=64), nullable=False, comment="digest of what makes it another one than the others"
        ),
        sa.Column("location", sa.String(), nullable=False, comment="path, s3:// or http(s) URL, as it was listed"),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False, comment="those that are its own"),
        sa.Column("lane", sa.SmallInteger(), nullable=True, comment="null: its campaign's"),
        sa.Column("metadata", sa.JSON(), nullable=False, comment="what else its list says of it"),
        sa.Column(
            "source", sa.String(), nullable=True, comment="as of a submission; null: a file that is not uploaded yet"
        ),
        sa.Column(
            "file_sha256",
            sa.String(length=64),
            nullable=True,
            comment="of the file's bytes, as far as they were seen",
        ),
        sa.Column("size", sa.BigInteger(), nullable=True, comment="bytes"),
        sa.Column("duration", sa.BigInteger(), nullable=True, comment="samples, as its container or its list says"),
        sa.Column("problem", sa.String(), nullable=True, comment="why it cannot be transcribed, in one line"),
        sa.Column("checked_at", sa.Double(), nullable=True, comment="database clock; when it was last looked at"),
        sa.Column("duplicate_of", sa.Integer(), nullable=True, comment="that is done instead"),
        sa.Column("submission_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_items_campaign_id")),
        sa.ForeignKeyConstraint(["duplicate_of"], ["campaign_items.id"], name=op.f("fk_campaign_items_duplicate_of")),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_campaign_items_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_items")),
        sa.UniqueConstraint("campaign_id", "key", name=op.f("uq_campaign_items_campaign_id_key")),
    )
    for columns in (["campaign_id", "file_sha256"], ["campaign_id", "location"], ["source"]):
        op.create_index(op.f(f"ix_campaign_items_{'_'.join(columns)}"), "campaign_items", columns)
    op.create_index(
        "ix_campaign_items_left",
        "campaign_items",
        ["campaign_id", "id"],
        postgresql_where=sa.text("submission_id IS NULL"),
        sqlite_where=sa.text("submission_id IS NULL"),
    )


def downgrade() -> None:
    """Back from it."""
    op.drop_column("workers", "speed")
    op.drop_index(op.f("ix_submissions_campaign_id_state"), "submissions")
    op.drop_column("submissions", "campaign_id")
    for table in ("throughput", "feed_pages", "campaign_items", "campaigns"):
        op.drop_table(table)
