"""Transcripts against references: what is compared, the figures, and how they are shown.

    manifest, texts ──► cases ──────► evaluation ──► table, report, page
    files               what is       errors,        terminal, JSON, HTML
                        compared      coverage

Nothing here transcribes: `stenopool eval` asks the driver for what has no transcript yet.
"""
