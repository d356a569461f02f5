"""Computes hardest.npz: which images of each batch a network finds hardest, in PyTorch.

To recompute it in a throwaway environment:

    pip install torch==2.13.0 numpy
    cd tests
    python -m golden.make_hardest

The choice and the updates follow airbench96_faster.py, in float64: every batch is cut
down to the half with the largest losses, and every other batch then updates the network
by the sum of these. Everything else is as in make_airbench.py, whose network this is.
"""

from pathlib import Path

import numpy as np
import torch
from golden import airbench_inputs as inputs
from golden.make_airbench import SCALES, Network, batches, sgd_groups
from torch.nn import functional

KEPT, EVERY = inputs.KEPT, inputs.EVERY


def main() -> None:
    """Chooses from all batches, and writes the positions and the last parameters."""
    network = Network(SCALES["sgd"])
    scale = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 9.0 / scale, 0.012 * 1024 / scale
    (whiten,), norms, rest = sgd_groups(network)
    optimizer = torch.optim.SGD(
        [
            {"params": norms, "lr": 64 * rate, "weight_decay": decay / (64 * rate)},
            {"params": [whiten, *rest], "lr": rate, "weight_decay": decay / rate},
        ],
        momentum=0.85,
        nesterov=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    updates = inputs.STEPS // EVERY
    # The rate rises for a fifth, instead of a tenth, of the few updates.
    points = [0, updates // 5, updates], [0.2, 1, 0]
    chosen = []
    for step, (images, labels) in enumerate(batches()):
        losses = functional.cross_entropy(
            network(images), labels, label_smoothing=0.2, reduction="none"
        )
        mask = torch.zeros(len(images), dtype=torch.bool)
        mask[losses.argsort()[-KEPT:]] = True
        chosen.append(mask.nonzero().flatten().numpy())
        if step % EVERY:
            continue
        factor = np.interp(step // EVERY, *points)
        for group, own in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = inputs.FACTOR * own * factor
        # As for 512 of 1,024 images.
        loss = (losses * mask).sum() * (512 / KEPT)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    results = {"chosen": np.array(chosen)}
    for parameter, value in network.weights.items():
        tensor = value.detach()
        if tensor.ndim > 1:
            order = (2, 3, 1, 0) if tensor.ndim == 4 else (1, 0)
            tensor = tensor.permute(*order)
        results[parameter] = tensor.numpy().astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("hardest.npz"), **results)


if __name__ == "__main__":
    main()
