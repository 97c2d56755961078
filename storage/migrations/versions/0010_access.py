"""Keys of the API; the audit log, to which rows are only added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_APPEND_ONLY = {
    "postgresql": (
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ),
    "sqlite": tuple(
        f"CREATE TRIGGER audit_no_{what.lower()} BEFORE {what} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for what in ("UPDATE", "DELETE")
    ),
}


def upgrade() -> None:
    """To this revision. No row is rewritten."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "tenant", sa.String(length=64), nullable=True, comment="whose it is; null: an operator's, for all tenants"
        ),
        sa.Column("name", sa.String(), nullable=False, comment="what people call it"),
        sa.Column(
            "prefix", sa.String(length=16), nullable=False, comment="how the secret begins: enough to know it by"
        ),
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the secret: 32 random bytes"),
        sa.Column("scopes", sa.JSON(), nullable=False, comment="submit, read, admin"),
        sa.Column("created_at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("expires_at", sa.Double(), nullable=True, comment="database clock; null: never"),
        sa.Column("revoked_at", sa.Double(), nullable=True, comment="database clock"),
        sa.Column("used_at", sa.Double(), nullable=True, comment="database clock; to the minute"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False, comment="database clock"),
        sa.Column("who", sa.String(), nullable=False, comment="a user of a machine of the farm, or a key of the API"),
        sa.Column("tenant", sa.String(length=64), nullable=True, comment="whom it concerns; null: nobody alone"),
        sa.Column(
            "action", sa.String(length=40), nullable=False, comment="key.create, lane.pause, submission.delete, ..."
        ),
        sa.Column("subject", sa.String(), nullable=False, comment="what it was done to"),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True, comment="what was changed by it"),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True, comment="to what"),
        sa.Column("request", sa.String(length=64), nullable=True, comment="the API's id of the request"),
        sa.Column(
            "digest",
            sa.String(length=64),
            nullable=False,
            comment="SHA-256 of the one before it and of this: a row that is changed or missing shows",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_tenant"), "audit", ["tenant"])
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.alter_column("workers", "role", comment="engine, scheduler, api, or of ingest, merge, publish some")
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """To the revision before."""
    op.drop_table("audit")
    op.drop_table("api_keys")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_append_only()")
