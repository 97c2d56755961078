"""A mesh of devices, and what of the engine lies where on it.

Two axes: `data` splits slots and rows, `model` splits parameters and caches. One device is the mesh 1x1, not another
code path. The compiler puts in the communication (GSPMD, Xu et al. 2021); here stands only where things lie.
"""

from __future__ import annotations

import re
from typing import Any

import jax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stenopool.errors import UsageError

#: Layers whose kernels are split along what comes in: they follow those that are split along what goes out, and the sum
#: over both halves is the only communication of the pair (Megatron-LM, Shoeybi et al. 2019).
_FOLLOWING = re.compile(r"\b(out|fc2)\.kernel\b")


def make_mesh(text: str | None) -> Mesh:
    """The mesh of that size, "2x4" for 2 by 4 devices; one device for None.

    Raises:
        UsageError: it is no size, or there are fewer devices.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text or "1x1")
    if match is None:
        raise UsageError(f"{text!r} is no mesh; name two numbers of devices, data x model, such as 2x4")
    data, model = int(match[1]), int(match[2])
    devices = jax.devices()
    if data * model > len(devices):
        raise UsageError(f"a mesh of {text} needs {data * model} devices, here are {len(devices)}; name a smaller one")
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices[: data * model]
    )


def placed_params(params: Any, mesh: Mesh) -> Any:
    """Parameters on the mesh, each split along `model` if any of its axes can be."""

    def place(path: tuple[Any, ...], value: jax.Array) -> Any:
        name = ".".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        first = 0 if _FOLLOWING.search(name) else value.ndim - 1
        return jax.device_put(value, _split(mesh, value.shape, first, "model"))

    return jax.tree_util.tree_map_with_path(place, params)


def slot_shardings(slots: Any, mesh: Mesh) -> Any:
    """Where each array of the slots lies: slots along `data`, heads of the caches (or their channels) along `model`."""

    def sharding(value: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        spec: list[str | None] = [None] * len(value.shape)
        if value.shape[0] % mesh.shape["data"] == 0:
            spec[0] = "data"
        if len(value.shape) == 4:  # [slot, head, length, head_dim]
            for axis in (1, 3):
                if value.shape[axis] % mesh.shape["model"] == 0:
                    spec[axis] = "model"
                    break
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(sharding, slots)


def placed_rows(rows: Any, mesh: Mesh) -> Any:
    """Arguments of a program on the mesh, their rows along `data`."""

    return jax.device_put(rows, NamedSharding(mesh, PartitionSpec("data")))


def replicated(params: Any, mesh: Mesh) -> list[str]:
    """Parameters that lie whole on every device of `model` although they could be split: none, unless by mistake."""
    model = mesh.shape["model"]
    return [
        ".".join(map(str, path))
        for path, value in nnx.to_flat_state(params)
        if any(size % model == 0 for size in value.shape) and "model" not in value[...].sharding.spec
    ]


def _split(mesh: Mesh, shape: tuple[int, ...], first: int, axis_name: str) -> NamedSharding:
    """Along the axis wished for, or any other that can be split; else along none."""
    axes = [first, *(axis for axis in range(len(shape)) if axis != first)] if shape else []
    at = next((axis for axis in axes if shape[axis] % mesh.shape[axis_name] == 0), None)
    return NamedSharding(mesh, PartitionSpec(*(axis_name if axis == at else None for axis in range(len(shape)))))
