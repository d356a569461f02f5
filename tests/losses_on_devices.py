"""Trains networks on one device and on eight, for tests of networks.

    python tests/losses_on_devices.py SIZE MODEL...

It prints, as JSON, {model: [losses on one device, losses on eight]}.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

from helpers import make_dataset, silent

from cifar_jax import Config, fit
from cifar_jax.training.loop import Hook

STEPS = 3


class Losses(Hook):
    """Keeps the loss of every step."""

    every = 1

    def __init__(self):
        self.seen = []

    def __call__(self, now):
        self.seen.append(float(now.metrics["total_loss"]))


def losses(model: str, image_size: int, num_devices: int) -> list[float]:
    """Returns the losses of the steps on this many devices."""
    config = Config(
        model=model,
        num_devices=num_devices,
        max_steps=STEPS,
        batch_size=16,
        image_size=image_size,
        distortions="center_crop",
        learning_rate=0.01,
        ops="plain",
        train_dir=None,
    )
    hook = Losses()
    fit(config, make_dataset(), silent, hooks=[hook])
    return hook.seen


if __name__ == "__main__":
    size, *chosen = sys.argv[1:]
    found = {model: [losses(model, int(size), n) for n in (1, 8)] for model in chosen}
    print(json.dumps(found))
