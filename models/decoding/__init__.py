"""Decoding: the rules that choose a token, the slots that chunks are decoded in, and tokens back to timed text."""
