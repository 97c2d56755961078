"""Keeps: the ledger (SQLAlchemy) and the object store."""
