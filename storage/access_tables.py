"""The ledger's tables of who may ask for what, and of who did what."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, String, event
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables import Base


class KeyRow(Base):
    """A key of the API. Of the secret itself only a digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str | None] = mapped_column(String(64), comment="whose it is; null: an operator's, for all tenants")
    name: Mapped[str] = mapped_column(comment="what people call it")
    prefix: Mapped[str] = mapped_column(String(16), comment="how the secret begins: enough to know it by")
    digest: Mapped[str] = mapped_column(String(64), unique=True, comment="SHA-256 of the secret: 32 random bytes")
    scopes: Mapped[list[str]] = mapped_column(JSON, comment="submit, read, admin")
    created_at: Mapped[float] = mapped_column(comment="database clock")
    expires_at: Mapped[float | None] = mapped_column(comment="database clock; null: never")
    revoked_at: Mapped[float | None] = mapped_column(comment="database clock")
    used_at: Mapped[float | None] = mapped_column(comment="database clock; to the minute")


class AuditRow(Base):
    """Something that somebody did which others may ask about. Nothing here is ever changed or removed."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(comment="database clock")
    who: Mapped[str] = mapped_column(comment="a user of a machine of the farm, or a key of the API")
    tenant: Mapped[str | None] = mapped_column(String(64), index=True, comment="whom it concerns; null: nobody alone")
    action: Mapped[str] = mapped_column(String(40), comment="key.create, lane.pause, submission.delete, ...")
    subject: Mapped[str] = mapped_column(comment="what it was done to")
    before: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True), comment="what was changed by it")
    after: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True), comment="to what")
    request: Mapped[str | None] = mapped_column(String(64), comment="the API's id of the request")
    digest: Mapped[str] = mapped_column(
        String(64), comment="SHA-256 of the one before it and of this: a row that is changed or missing shows"
    )


#: No statement changes or removes a row, whoever is connected; only who owns the table can lift that.
APPEND_ONLY = {
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


def _after_create(_: Any, connection: Any, **__: Any) -> None:
    for statement in APPEND_ONLY[connection.dialect.name]:
        connection.exec_driver_sql(statement)


event.listen(AuditRow.__table__, "after_create", _after_create)
