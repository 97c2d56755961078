"""Decides: plan, merge, coverage; pure decisions apart from their I/O. Never imports JAX or workers."""
