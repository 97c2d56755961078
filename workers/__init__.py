"""Does: ingest, transcribe, publish, and the one-machine driver that calls them in order."""
