"""Applies functions to many images, batch by batch, on all devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Num, PyTree, UInt8

from cifar_jax.checks import check_integer
from cifar_jax.devices import compilation, memory, sharding

# The fastest for the tutorial's network on a CPU among sizes from 25 to 1,000.
BATCH_SIZE = 80
# The batch size for few images, for which there is no other.
FEW = 8
# Images sent to the devices at a time: enough for all of CIFAR-10.
BYTES_PER_CALL = 256 << 20

# A function of weights and images, with a row for each image. Equal functions are
# compiled once.
Function = Callable[[PyTree, Array], Array]


def apply(
    function: Function,
    weights: PyTree,
    images: UInt8[Any, "n h w c"],
    batch_size: int = BATCH_SIZE,
    num_devices: int | None = None,
    row_bytes: int = 0,
) -> Num[np.ndarray, "n ..."]:
    """Returns a function's result for each image.

    One device call covers many batches, and the devices share each batch. The last call
    is padded, and the results for the padding are dropped; a batch size above the
    number of images is reduced instead.

    Args:
        function: a pure function of weights and a batch.
        weights: its first argument.
        images: bytes.
        batch_size: images per batch; rounded up to a multiple of the devices.
        num_devices: number of devices to use; None: all.
        row_bytes: size of the result for an image, if it may be larger than the image.

    Raises:
        UserError: a number cannot be used.
        RunError: there is not enough memory.
    """
    batch_size = check_integer(batch_size, "batch_size", at_least=1)
    # Below BATCH_SIZE, every number of images would be compiled separately.
    batch_size = min(batch_size, max(len(images), BATCH_SIZE))
    mesh = sharding.create_mesh(num_devices)
    compilation.enable()
    batch_size += -batch_size % mesh.size
    way_out = "use smaller images or a smaller network"
    if batch_size > FEW:
        way_out = f"lower --batch_size, or {way_out}"
    with memory.shortage_as_run_error(f"batches of {batch_size} images", way_out):
        return _apply(function, weights, images, batch_size, mesh, row_bytes)


def _apply(
    function: Function,
    weights: PyTree,
    images: UInt8[Any, "n h w c"],
    batch_size: int,
    mesh: Mesh,
    row_bytes: int,
) -> Num[np.ndarray, "n ..."]:
    """Implements `apply` for a batch size that the devices can share."""
    weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))
    batch_shape = (batch_size, *images.shape[1:])
    batches = math.ceil(len(images) / batch_size)
    largest = max(math.prod(batch_shape), batch_size * row_bytes)
    count = batches_per_call(batches, largest)
    call, looped = _compile(function, mesh, weights, (count, *batch_shape))
    if looped:
        shape, spec = (count, *batch_shape), PartitionSpec(None, sharding.AXIS)
    else:
        count, shape, spec = 1, batch_shape, PartitionSpec(sharding.AXIS)
    shared = NamedSharding(mesh, spec)
    results: list[Array] = []
    for start in range(0, len(images), count * batch_size):
        part = images[start : start + count * batch_size]
        missing = count * batch_size - len(part)
        padded = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)]).reshape(shape)
        results.append(call(weights, sharding.place(padded, shared)))
        if len(results) > 1:
            # Otherwise the devices could hold the images of all calls at once.
            jax.block_until_ready(results[-2])
    parts = [x.reshape(-1, *x.shape[1 + looped :]) for x in map(np.asarray, results)]
    return np.concatenate(parts)[: len(images)]


def _compile(
    function: Function, mesh: Mesh, weights: PyTree, shape: tuple[int, ...]
) -> tuple[jax.stages.Compiled, bool]:
    """Returns the compiled function of the weights and several batches, or one batch.

    Args:
        function: see `apply`.
        mesh: the devices.
        weights: the weights on these devices.
        shape: the shape of all batches in a call.

    Returns:
        The function, and whether it takes several batches; on a CPU, a loop over them
        may be slow.
    """

    def every(weights: PyTree, batches: UInt8[Array, "m n h w c"]) -> Array:
        return jax.lax.map(lambda images: function(weights, images), batches)

    def lowered(
        function: Function, spec: PartitionSpec, shape: tuple[int, ...]
    ) -> jax.stages.Lowered:
        shared = NamedSharding(mesh, spec)
        images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=shared)
        whole = NamedSharding(mesh, PartitionSpec())
        return jax.jit(function, out_shardings=whole).lower(weights, images)

    def compiled() -> tuple[jax.stages.Compiled, bool]:
        if jax.default_backend() == "cpu":
            one = lowered(function, PartitionSpec(sharding.AXIS), shape[1:])
            if compilation.is_slow_in_loops(one):
                return compilation.compile_lowered(one), False
        looped = lowered(every, PartitionSpec(None, sharding.AXIS), shape)
        return compilation.compile_lowered(looped), True

    return compilation.compile_once((function, mesh, shape), weights, compiled)


def batches_per_call(batches: int, batch_bytes: int) -> int:
    """Returns a number of batches that makes all calls about the same length."""
    calls = math.ceil(batches * batch_bytes / BYTES_PER_CALL)
    return math.ceil(batches / calls)
