"""Search, watch-lists, redaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from storage.search_index import make_trigrams

revision = "0008"
down_revision = "0007"

_FULL_TEXT = (
    "CREATE VIRTUAL TABLE passages_words USING fts5(words, content='passages', content_rowid='id', "
    "tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* Co M*'\")",
    "CREATE VIRTUAL TABLE passages_vocabulary USING fts5vocab(passages_words, row)",
    "CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN "
    "INSERT INTO passages_words (rowid, words) VALUES (new.id, new.words); END",
    "CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN "
    "INSERT INTO passages_words (passages_words, rowid, words) VALUES ('delete', old.id, old.words); END",
)


def upgrade() -> None:
    """To this revision. What was transcribed before is found after `stenopool search --reindex`."""
    on_postgres = op.get_bind().dialect.name == "postgresql"
    op.add_column(
        "recordings",
        sa.Column(
            "name",
            sa.String(),
            nullable=True,
            comment="on one machine: the file that it was decoded from the last time",
        ),
    )
    op.add_column(
        "submissions",
        sa.Column(
            "redact",
            sa.String(),
            nullable=True,
            comment="kinds to be redacted, separated by commas; null: it is not",
        ),
    )
    op.add_column("events", sa.Column("detail", sa.JSON(), nullable=True, comment="what was heard, where"))
    op.create_table(
        "passages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False, comment="as its transcript's"),
        sa.Column("language", sa.String(length=16), nullable=False, comment="empty where it is not known"),
        sa.Column("config", sa.String(length=32), nullable=False, comment="Postgres' text search configuration for it"),
        sa.Column("completed_at", sa.Double(), nullable=False, comment="as its transcript's"),
        sa.Column(
            "view",
            sa.SmallInteger(),
            nullable=False,
            comment="0: all find it, 1: who may see all, 2: who may not",
        ),
        sa.Column("start", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("end", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("marks", sa.JSON(), nullable=False, comment="[character, sample] at which each segment begins"),
        sa.Column(
            "words",
            postgresql.TSVECTOR().with_variant(sa.Text(), "sqlite"),
            nullable=False,
            comment="as they are compared (stenopool.wording)",
        ),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name=op.f("fk_passages_transcript_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passages")),
    )
    op.create_index(op.f("ix_passages_transcript_id"), "passages", ["transcript_id"])
    op.create_index(op.f("ix_passages_config"), "passages", ["config"])
    if on_postgres:
        op.create_index("ix_passages_words", "passages", ["words"], postgresql_using="gin")
        make_trigrams(op.get_bind())
    else:
        for statement in _FULL_TEXT:
            op.get_bind().exec_driver_sql(statement)
    op.create_table(
        "redactions",
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("masks", sa.JSON(), nullable=False, comment="[segment, first character, last + 1, kind]"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock"),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name=op.f("fk_redactions_transcript_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("transcript_id", name=op.f("pk_redactions")),
    )
    op.create_table(
        "watches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False, comment="empty on one machine"),
        sa.Column("phrase", sa.String(), nullable=False, comment="as it was given"),
        sa.Column("words", sa.String(), nullable=False, comment="as they are compared, with spaces between them"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watches")),
        sa.UniqueConstraint("tenant", "words", name=op.f("uq_watches_tenant_words")),
    )
    op.create_table(
        "watch_hits",
        sa.Column("watch_id", sa.Integer(), nullable=False),
        sa.Column("transcript_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False, comment="its first word, from 0"),
        sa.Column(
            "start",
            sa.Integer(),
            nullable=False,
            comment="samples; of the segment where there are no times of words",
        ),
        sa.Column("end", sa.Integer(), nullable=False, comment="samples"),
        sa.Column("text", sa.Text(), nullable=False, comment="what was heard, with the segments around"),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock"),
        sa.ForeignKeyConstraint(
            ["transcript_id"], ["transcripts.id"], name=op.f("fk_watch_hits_transcript_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["watch_id"], ["watches.id"], name=op.f("fk_watch_hits_watch_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("watch_id", "transcript_id", "place", name=op.f("pk_watch_hits")),
    )
    op.create_index(op.f("ix_watch_hits_transcript_id"), "watch_hits", ["transcript_id"])


def downgrade() -> None:
    """Back from it."""
    for table in ("watch_hits", "watches", "redactions"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("passages_vocabulary")
        op.drop_table("passages_words")
    op.drop_table("passages")
    for table, column in (("events", "detail"), ("submissions", "redact"), ("recordings", "name")):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column(column)
