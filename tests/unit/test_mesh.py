"""A mesh of devices: what can be split is split, and what is heard does not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from models.mesh import make_mesh
from stenopool.errors import UsageError

#: Devices are counted when JAX starts: eight of them need a process of their own.
DECODE = """
import json, sys
import jax
from models.checkpoint import find_checkpoint
from models.decoding.requests import Decoding, Request
from models.device import use_compile_cache
from models.engine import Engine
from models.mesh import replicated
from stenopool.config import Config
from tests import sounds

use_compile_cache(Config.from_env().cache / "xla")
pcm = sounds.read(sounds.SAMPLE)
decoding = Decoding(language="en", word_timestamps=True)
requests = [Request(key=key, pcm=pcm[key * 480_000 :][:160_000], decoding=decoding) for key in range(3)]
found = {}
for mesh in (None, *sys.argv[1:]):
    engine = Engine(find_checkpoint("pocket"), dtype="float32", batch_size=4, mesh=mesh)
    heard = {one.key: (one.tokens, one.times.starts) for one in engine.run(requests)}
    found[mesh or "one device"] = {
        "heard": [heard[key] for key in sorted(heard)],
        "replicated": replicated(engine.params, engine.mesh),
        "parameters": len(jax.tree.leaves(engine.params)),
        "split": sum("model" in leaf.sharding.spec for leaf in jax.tree.leaves(engine.params)),
    }
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What was heard on one device and on three meshes of eight."""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-c", DECODE, "8x1", "4x2", "1x8"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("mesh", ["8x1", "4x2", "1x8"])
def test_a_mesh_hears_what_one_device_hears(found: dict[str, Any], mesh: str) -> None:
    """Token for token, and each token at the same time, in float32."""
    assert len(found["one device"]["heard"]) == 3
    assert found[mesh]["heard"] == found["one device"]["heard"]


@pytest.mark.parametrize("mesh", ["4x2", "1x8"])
def test_what_can_be_split_is_split(found: dict[str, Any], mesh: str) -> None:
    """No parameter lies whole on every device of `model`; all of pocket's have an axis that can be split."""
    assert found[mesh]["replicated"] == []
    assert found[mesh]["split"] == found[mesh]["parameters"] > 100


@pytest.mark.parametrize("text", ["", "8", "2x", "0x1", "2x2x2", "-1x1", "axb"])
def test_what_is_no_mesh(text: str) -> None:
    """A size is two numbers, neither of them nought."""
    with pytest.raises(UsageError, match="is no mesh; name two numbers of devices, data x model, such as 2x4"):
        make_mesh(text or " ")


def test_more_devices_than_there_are() -> None:
    """The message says how many there are."""
    with pytest.raises(UsageError, match="a mesh of 64x64 needs 4096 devices, here are 1; name a smaller one"):
        make_mesh("64x64")
