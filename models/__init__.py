"""Hears: features, Whisper modules, decoding, voice activity, checkpoints. Knows nothing of jobs."""
