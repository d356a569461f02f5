"""Computes airbench.npz: ten steps of Airbench in PyTorch, with SGD and with Muon.

To recompute it in a throwaway environment:

    pip install torch==2.13.0 numpy
    cd tests
    python -m golden.make_airbench

Network, losses and updates follow the original, in float64: losses are summed over a
batch, learning rates and weight decay are those of airbench94.py and
airbench94_muon.py. As the batches here are smaller, losses are multiplied by what is
missing. Images are not distorted, and learning rates are a hundredth.
"""

from pathlib import Path

import numpy as np
import torch
from golden import airbench_inputs as inputs
from torch import Tensor, nn
from torch.nn import functional

SCALES = {"sgd": 1 / 9, "muon": 1 / 256}
STEPS = inputs.STEPS


class Network(nn.Module):
    """Airbench, with its parameters under the names of cifar_jax."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weights = nn.ParameterDict()
        for layer, values in inputs.params().items():
            for name, value in values.items():
                tensor = torch.from_numpy(value).double()
                if name == "kernel":
                    order = (3, 2, 0, 1) if tensor.ndim == 4 else (1, 0)
                    tensor = tensor.permute(*order)
                self.weights[f"{layer}/{name}"] = nn.Parameter(tensor.contiguous())
        self.weights["whiten/kernel"].requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        weights = self.weights
        x = functional.conv2d(x, weights["whiten/kernel"], weights["whiten/bias"])
        x = functional.gelu(x)
        for group in ("group1", "group2", "group3"):
            for number in (1, 2):
                kernel = weights[f"{group}_conv{number}/kernel"]
                x = functional.conv2d(x, kernel, padding="same")
                if number == 1:
                    x = functional.max_pool2d(x, 2)
                bias = weights[f"{group}_norm{number}/bias"]
                x = functional.batch_norm(
                    x, None, None, torch.ones_like(bias), bias, training=True, eps=1e-12
                )
                x = functional.gelu(x)
        x = functional.max_pool2d(x, 3).flatten(1)
        return x @ weights["predictions/kernel"].T * self.scale


def batches() -> list[tuple[Tensor, Tensor]]:
    """Returns the normalized images and the labels of each step."""
    images = inputs.images().astype(np.float64)
    images -= images.mean((0, 1, 2, 3))
    images /= images.std((0, 1, 2, 3))
    images = torch.from_numpy(images).permute(0, 1, 4, 2, 3)
    return list(zip(images, torch.from_numpy(inputs.labels()).long(), strict=True))


def loss_of(network: Network, batch: tuple[Tensor, Tensor], batch_size: int) -> Tensor:
    """Returns the sum of the losses, as for a batch of that size."""
    images, labels = batch
    loss = functional.cross_entropy(
        network(images), labels, label_smoothing=0.2, reduction="sum"
    )
    return loss * (batch_size / inputs.BATCH_SIZE)


def sgd_groups(network: Network) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Returns the whitening bias, the biases of BatchNorm, and the rest."""
    named = dict(network.weights.items())
    norms = [value for name, value in named.items() if "_norm" in name]
    rest = [named[n] for n in named if n.endswith("kernel") and n != "whiten/kernel"]
    return [named["whiten/bias"]], norms, rest


def train_sgd() -> tuple[list[float], Network]:
    """SGD with Nesterov momentum and Lookahead, as airbench94.py."""
    network = Network(SCALES["sgd"])
    scale = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / scale, 0.0153 * 1024 / scale
    whiten, norms, rest = sgd_groups(network)
    optimizer = torch.optim.SGD(
        [
            {"params": norms, "lr": 64 * rate, "weight_decay": decay / (64 * rate)},
            {"params": [*whiten, *rest], "lr": rate, "weight_decay": decay / rate},
        ],
        momentum=0.85,
        nesterov=True,
    )
    points = [0, int(0.23 * STEPS), STEPS], [0.2, 1, 0.07]
    factors = np.interp(np.arange(STEPS + 1), *points)
    whitening_steps = STEPS * 144 / 476
    slow = {name: value.detach().clone() for name, value in network.weights.items()}
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step, batch in enumerate(batches()):
        whiten[0].requires_grad = step < whitening_steps
        for group, own in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = inputs.FACTOR * own * factors[step]
        loss = loss_of(network, batch, 1024)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 5 == 0:
            kept = 0.95**5 * ((step + 1) / STEPS) ** 3
            for name, value in network.weights.items():
                slow[name].lerp_(value.detach(), 1 - kept)
                value.data.copy_(slow[name])
    return losses, network


def orthogonalized(gradient: Tensor) -> Tensor:
    """Returns three Newton-Schulz steps on a matrix."""
    x = gradient / (gradient.norm() + 1e-7)
    if x.size(0) > x.size(1):
        x = x.T
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if gradient.size(0) > gradient.size(1) else x


def train_muon() -> tuple[list[float], Network]:
    """Muon for the 3x3 convolutions and SGD for the rest, as airbench94_muon.py."""
    network = Network(SCALES["muon"])
    (whiten,), norms, rest = sgd_groups(network)
    kernels, head = rest[:-1], rest[-1]
    decay = 2e-6 * 2000
    optimizer = torch.optim.SGD(
        [
            {"params": [whiten], "lr": 0.053, "weight_decay": decay / 0.053},
            {"params": norms, "lr": 0.053, "weight_decay": decay / 0.053},
            {"params": [head], "lr": 0.67, "weight_decay": decay / 0.67},
        ],
        momentum=0.85,
        nesterov=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    moments = [torch.zeros_like(kernel) for kernel in kernels]
    whitening_steps = STEPS * 75 / 200
    losses = []
    for step, batch in enumerate(batches()):
        lengths = (whitening_steps, STEPS, STEPS)
        for group, own, length in zip(
            optimizer.param_groups, rates, lengths, strict=True
        ):
            factor = inputs.FACTOR
            group["lr"] = factor * own * max(0, 1 - step / length)
        loss = loss_of(network, batch, 2000)
        optimizer.zero_grad(set_to_none=True)
        for kernel in kernels:
            kernel.grad = None
        loss.backward()
        optimizer.step()
        for kernel, moment in zip(kernels, moments, strict=True):
            moment.mul_(0.6).add_(kernel.grad)
            gradient = kernel.grad.add(moment, alpha=0.6)
            kernel.data.mul_(len(kernel) ** 0.5 / kernel.data.norm())
            update = orthogonalized(gradient.reshape(len(kernel), -1))
            rate = inputs.FACTOR * 0.24 * (1 - step / STEPS)
            kernel.data.add_(update.view(kernel.shape), alpha=-rate)
        losses.append(loss.item())
    return losses, network


def main() -> None:
    """Trains with both, and writes losses and parameters."""
    results: dict[str, np.ndarray] = {}
    for name, train in {"sgd": train_sgd, "muon": train_muon}.items():
        losses, network = train()
        print(name, losses)
        results[f"{name}/losses"] = np.array(losses)
        for parameter, value in network.weights.items():
            tensor = value.detach()
            if tensor.ndim > 1:
                order = (2, 3, 1, 0) if tensor.ndim == 4 else (1, 0)
                tensor = tensor.permute(*order)
            results[f"{name}/{parameter}"] = tensor.numpy().astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("airbench.npz"), **results)


if __name__ == "__main__":
    main()
