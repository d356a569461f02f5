"""Describes where parameters, data and compiled code are placed."""

import jax
from jaxtyping import PyTree


def describe(state: PyTree, data: PyTree, compiled: jax.stages.Compiled) -> str:
    """Returns a table of the devices of every array and of the compiled train step.

    It corresponds to the tutorial's --log_device_placement; XLA compiles the whole step
    for its devices, so no devices of individual operations can be listed.
    """
    lines = ["device placement"]
    arrays = [("state", state), ("data", data)]
    for title, tree in arrays:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = f"{title}{jax.tree_util.keystr(path)}"
            shape = f"{leaf.dtype}{list(leaf.shape)}"
            places = ", ".join(str(device) for device in leaf.sharding.device_set)
            lines.append(f"  {name}: {shape} on {places}")
    devices = {
        device
        for sharding in jax.tree.leaves(compiled.input_shardings)
        for device in sharding.device_set
    }
    names = ", ".join(sorted(f"{d} ({d.device_kind})" for d in devices))
    lines.append(f"  train step: compiled for {names}")
    if memory := compiled.memory_analysis():
        lines.append(
            f"  train step: {memory.temp_size_in_bytes / 1e6:.0f} MB of temporary "
            f"memory, {memory.argument_size_in_bytes / 1e6:.0f} MB of arguments"
        )
    return "\n".join(lines)
