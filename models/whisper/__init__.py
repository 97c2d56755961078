"""The Whisper architecture in flax.nnx, and the table that reads Hugging Face weights into it."""
