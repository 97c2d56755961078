"""All that the reference implementations compute, into a folder: what the tests read, made anew in one go.

    .venv/bin/python tests/references/plan_sample.py | OTHER/bin/python tests/references/peers.py FOLDER [--whole]

`bench/parity.py` calls it, in the environment of requirements.txt. Without `--whole`, openai/whisper transcribes the
first 90 s of the sample only, under a few options.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import make_decoding_references
import make_references
import make_sample_reference
import torch
import transformers


def main() -> None:
    """Record everything."""
    folder, whole = Path(sys.argv[1]), "--whole" in sys.argv[2:]
    plan = json.load(sys.stdin)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)  # models this small only wait for each other's threads
    make_references.main(folder)
    make_sample_reference.main(plan, folder)
    make_decoding_references.main(folder, whole=whole)


if __name__ == "__main__":
    main()
