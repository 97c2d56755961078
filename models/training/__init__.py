"""Training: a checkpoint in, a checkpoint out. What to learn from is handed in; nothing here reads a recording."""
