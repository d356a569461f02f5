"""Some training steps and an evaluation on so many devices: what test_parallel starts.

    python tests/steps_on_devices.py MODE NUM_DEVICES OUT.npz [ADDRESS PROCESSES ID]

writes what the first process sees: what a step draws at random, the loss of every
step, the state after the last, and the logits of the test images.
"""

import sys
from collections.abc import Callable

import jax
import numpy as np
from helpers import make_dataset, spread

from cifar_jax import Config, averaged_params, build_program, parallel, predict_logits
from cifar_jax import steps as pure
from cifar_jax.compiled import CompiledSteps
from cifar_jax.data import augment
from cifar_jax.data_parallel import ByJit

STEPS = 20


def draws(way: ByJit) -> Callable:
    """A function in the form of a train step that returns what the step draws."""

    def function(state, data, batches, count):
        images = data[0][batches[0]]
        keys = pure.image_keys(state, len(images), way.axis_name)
        split = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        crops = jax.vmap(augment.random_crop)(split[:, 0], images)
        drawn = {
            "crops": jax.vmap(augment.random_flip)(split[:, 1], crops),
            "brightness": jax.vmap(jax.random.uniform)(split[:, 2]),
            "contrast": jax.vmap(jax.random.uniform)(split[:, 3]),
        }
        if way.axis_name is not None:
            drawn = jax.lax.all_gather(drawn, way.axis_name, tiled=True)
        return state, drawn

    return way.spread(function)


def run(mode: str, num_devices: int) -> dict[str, np.ndarray]:
    """What the docstring of the module says, by name."""
    dataset = make_dataset()
    config = Config(batch_size=16)
    way = spread(mode, num_devices)
    program = build_program(config, num_classes=3)
    state = way.create(lambda: program.create_state(jax.random.key(config.seed)))
    steps = CompiledSteps(program, dataset.train, config.batch_size, state, 7, way)
    data = parallel.replicate(way.mesh, (dataset.train.images, dataset.train.labels))
    batches = way.share_out(steps._batches(3, 1, 1))
    draw = draws(way).lower(state, data, batches, 1).compile()
    state, found = draw(state, data, batches, 1)
    found["images"] = steps.inspect(state, 0).images
    losses = []
    for first in range(0, STEPS, 7):
        end = min(first + 7, STEPS)
        state, now = steps.train_steps(state, first, end)
        losses.extend(np.asarray(now["total_loss"]))
    averaged = averaged_params(state.opt_state)
    for name, tree in (("params", state.params), ("averaged", averaged)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[name + jax.tree_util.keystr(path)] = leaf
    found["losses"] = np.array(losses)
    found["logits"] = predict_logits(
        program.model, averaged, dataset.test.images, 16, num_devices
    )
    return {name: np.asarray(array) for name, array in found.items()}


if __name__ == "__main__":
    mode, num_devices, out, *rest = sys.argv[1:]
    if rest:
        parallel.start(rest[0], int(rest[1]), int(rest[2]))
    result = run(mode, int(num_devices))
    if parallel.is_first():
        np.savez(out, **result)
