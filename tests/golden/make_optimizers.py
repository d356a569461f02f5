"""Writes PyTorch's optimizers.json: weights after steps, and learning rates.

To run it in a throwaway environment:

    pip install torch==2.13.0 numpy
    python tests/golden/make_optimizers.py
"""

import functools
import json
import pathlib
from collections.abc import Callable, Iterator

import torch
from torch.optim import lr_scheduler

FILE = pathlib.Path(__file__).with_name("optimizers.json")
GRADIENTS = (1.0, -0.5, 2.0, 0.25)
SGD = functools.partial(torch.optim.SGD, momentum=0.9)
OPTIMIZERS = {
    "sgd": SGD,
    "nesterov": functools.partial(SGD, nesterov=True),
    "adamw": torch.optim.AdamW,
    "radam": functools.partial(torch.optim.RAdam, decoupled_weight_decay=True),
    "adadelta": torch.optim.Adadelta,
}
STEPS = 20
SCHEDULES = {
    "onecycle": functools.partial(
        lr_scheduler.OneCycleLR, max_lr=0.4, total_steps=STEPS, cycle_momentum=False
    ),
    "onecycle(pct_start=0.4, div_factor=10, final_div_factor=50, shape='linear')": (
        functools.partial(
            lr_scheduler.OneCycleLR,
            max_lr=0.4,
            total_steps=STEPS,
            pct_start=0.4,
            div_factor=10,
            final_div_factor=50,
            anneal_strategy="linear",
            cycle_momentum=False,
        )
    ),
    "cosine_restarts": functools.partial(
        lr_scheduler.CosineAnnealingWarmRestarts, T_0=STEPS // 4
    ),
    "cosine_restarts(first=0.15, factor=2, end=0.1)": functools.partial(
        lr_scheduler.CosineAnnealingWarmRestarts, T_0=3, T_mult=2, eta_min=0.04
    ),
    "polynomial(power=2)": functools.partial(
        lr_scheduler.PolynomialLR, total_iters=STEPS, power=2
    ),
}


def weights_after(create: Callable[..., torch.optim.Optimizer]) -> Iterator[float]:
    """Yields a weight that starts at 3 after each of the gradients."""
    weight = torch.tensor(3.0, requires_grad=True)
    optimizer = create([weight], lr=0.1, weight_decay=0.01)
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        yield weight.item()


def rates_of(create: Callable[..., lr_scheduler.LRScheduler]) -> Iterator[float]:
    """Yields the learning rate of each step, with 0.4 at the peak."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = create(optimizer)
    for _ in range(STEPS):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


def sharpness_aware_weights(rho: float = 0.05, steps: int = 3) -> Iterator[list[float]]:
    """Yields all weights of a small network after each step of SAM, around SGD.

    The images are 2x2, and test_sam.py has the same network and data.
    """
    images = torch.arange(6 * 12) * 37 % 256
    inputs = images.reshape(6, 12) / 127.5 - 1
    labels = torch.arange(6) % 3
    shapes = ((12, 4), (4,), (4, 3), (3,))
    weights = []
    for shape in shapes:
        count = torch.Size(shape).numel()
        values = torch.sin(torch.arange(count, dtype=torch.float32)) / 2
        weights.append(values.reshape(shape).requires_grad_())
    kernels, biases = weights[::2], weights[1::2]
    groups = [{"params": kernels, "weight_decay": 0.01}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)

    def backward() -> None:
        optimizer.zero_grad()
        hidden = torch.tanh(inputs @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        torch.nn.functional.cross_entropy(logits, labels).backward()

    for _ in range(steps):
        backward()
        gradients = [weight.grad.clone() for weight in weights]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        before = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight += rho * gradient / norm
        backward()
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
        optimizer.step()
        yield torch.cat([weight.detach().flatten() for weight in weights]).tolist()


def main() -> None:
    values = {
        "weights": {
            name: list(weights_after(each)) for name, each in OPTIMIZERS.items()
        },
        "rates": {name: list(rates_of(make)) for name, make in SCHEDULES.items()},
        "sam": list(sharpness_aware_weights()),
    }
    FILE.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
