"""Runs training steps and an evaluation on several devices, for test_parallel.py.

    python tests/steps_on_devices.py MODE NUM_DEVICES NETWORK,... FOLDER \
        [ADDRESS PROCESSES ID]

A network is the tutorial's, or a small one with BatchNorm if NETWORK is batch_norm,
mixtures, which mixes images, augmented, which distorts them in other ways, sam, which
takes gradients twice, or streamed, which sends images batch by batch; or a Vision
Transformer that draws random numbers, vit. For all but the tutorial's, a third of the
images have no label; for batch_norm and streamed, an array of weights that accompanies
the images scales the loss. The main process writes FOLDER/NETWORK.npz: the loss of
every step, the state after the last step, the logits of the test images and, for the
tutorial's network, the random draws of a step.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable

import jax
import numpy as np
from helpers import SmallBatchNorm, make_dataset, strategy

from cifar_jax import Config, Program, build_program, models, predict_logits
from cifar_jax.data import augment
from cifar_jax.data.batches import BatchOrder
from cifar_jax.devices import processes, sharding
from cifar_jax.devices.strategies import Strategy
from cifar_jax.training import initial, train_state
from cifar_jax.training import steps as pure
from cifar_jax.training.compiled import CompiledSteps
from cifar_jax.training.trained import from_state

STEPS = 20
VIT = "vit_ti(patch=8, width=16, depth=2, heads=2, dropout=0.1, drop_path=0.5)"


crop = functools.partial(augment.random_crop, size=24)


def draws(program: Program, strategy_: Strategy) -> Callable:
    """Returns a function like a train step that returns the step's random draws."""
    own = dataclasses.replace(program, share=strategy_.share)

    def function(state, data, batches, count):
        images = data[0][batches["indices"][0]]
        keys = pure.image_keys(own, state, len(images))
        split = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        crops = jax.vmap(crop)(split[:, 0], images)
        drawn = {
            "crops": crops,
            "flips": jax.vmap(jax.random.bernoulli)(split[:, 1]),
            "brightness": jax.vmap(jax.random.uniform)(split[:, 2]),
            "contrast": jax.vmap(jax.random.uniform)(split[:, 3]),
        }
        if own.share.axis_name is not None:
            drawn = jax.lax.all_gather(drawn, own.share.axis_name, tiled=True)
        return state, drawn

    return strategy_.wrap(function)


def run(
    mode: str, num_devices: int, with_draws: bool, stream: bool, **settings: str
) -> dict[str, np.ndarray]:
    """Returns the arrays described in the module's docstring, by name."""
    dataset = make_dataset()
    if "loss" in settings:
        weights = np.linspace(0, 2, len(dataset.train), dtype=np.float32)
        train = dataclasses.replace(dataset.train, extra={"weight": weights})
        dataset = dataclasses.replace(dataset, train=train)
    if settings:
        labels = np.where(np.arange(len(dataset.train)) % 3, dataset.train.labels, -1)
        train = dataclasses.replace(dataset.train, labels=labels.astype(np.int32))
        dataset = dataclasses.replace(dataset, train=train)
    config = Config(batch_size=16, **settings)
    strategy_ = strategy(mode, num_devices)
    program = build_program(config, num_classes=3)
    images, mesh = dataset.train.images, strategy_.mesh
    state = initial.create(program, config.seed, images, mesh)
    steps = CompiledSteps(
        program, dataset.train, config.batch_size, state, 7, strategy_, stream=stream
    )
    data = sharding.replicate(
        strategy_.mesh, (dataset.train.images, dataset.train.labels)
    )
    order_key = train_state.streams(jax.random.key(config.seed)).order
    order = BatchOrder(order_key, len(dataset.train), config.batch_size)
    batch = {name: array[None] for name, array in order(3).items()}
    batches = strategy_.shard(batch)
    found = {}
    if with_draws:
        draw = draws(program, strategy_).lower(state, data, batches, 1).compile()
        state, found = draw(state, data, batches, 1)
    found["images"] = steps.inspect(state, 0).images
    losses = []
    ends = [1, *range(7, STEPS, 7), STEPS]
    for first, end in itertools.pairwise([0, *ends]):
        state, now = steps.train_steps(state, first, end)
        losses.append(np.asarray(now["total_loss"]))
    trees = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "averaged": state.averaged_variables,
    }
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[name + jax.tree_util.keystr(path)] = leaf
    found["losses"] = np.array(losses)
    found["logits"] = predict_logits(
        from_state(program, state, dataset),
        dataset.test.images,
        16,
        num_devices,
    )
    return {name: np.asarray(array) for name, array in found.items()}


if __name__ == "__main__":
    mode, num_devices, networks, folder, *rest = sys.argv[1:]
    models.MODELS["batch_norm"] = SmallBatchNorm
    settings = {
        "tutorial": {},
        "batch_norm": {"model": "batch_norm", "loss": "weighted(cross_entropy)"},
        "mixtures": {
            "model": "batch_norm",
            "distortions": "crop, alternating_flip, mixup(1), cutmix",
        },
        "sam": {"model": "batch_norm", "optimizer": "sam(sgd)"},
        "vit": {"model": VIT},
        "augmented": {
            "model": "batch_norm",
            "distortions": "random_resized_crop, affine(prob=0.8), color_jitter, "
            "trivial_augment, augmix, random_erasing, choice(mixup, cutmix)",
        },
    }
    settings["streamed"] = settings["batch_norm"]
    if rest:
        processes.start(rest[0], int(rest[1]), int(rest[2]))
    for network in networks.split(","):
        result = run(
            mode,
            int(num_devices),
            network == "tutorial",
            network == "streamed",
            **settings[network],
        )
        if processes.is_main():
            np.savez(f"{folder}/{network}.npz", **result)
