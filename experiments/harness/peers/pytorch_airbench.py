"""Airbench in PyTorch, with the same layers and initialization as in cifar_jax."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Airbench(nn.Module):
    """A whitening convolution and three groups of two 3x3 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)
        self.groups = nn.Sequential(*group(24, 64), *group(64, 256), *group(256, 256))
        self.predictions = nn.Linear(256, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.groups(functional.gelu(self.whiten(images)))
        return self.predictions(functional.max_pool2d(x, 3).flatten(1)) / 9

    @torch.no_grad()
    def initialize_whitening(self, images: Tensor) -> None:
        """Sets the filters that decorrelate the values in patches of the images.

        They are the principal components of the patches, each divided by the standard
        deviation along it, followed by their negatives.
        """
        windows = images.unfold(2, 2, 1).unfold(3, 2, 1)
        patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (components / (variances + 5e-4).sqrt()).T.flip(0)
        kernel = torch.cat([filters, -filters]).view_as(self.whiten.weight)
        self.whiten.weight.copy_(kernel)


def group(inputs: int, width: int) -> list[nn.Module]:
    """Returns two convolutions with BatchNorm and GELU; the first one also pools."""
    first = nn.Sequential(conv(inputs, width), nn.MaxPool2d(2), norm(width))
    second = nn.Sequential(conv(width, width), norm(width))
    return [first, nn.GELU(), second, nn.GELU()]


def conv(inputs: int, width: int) -> nn.Conv2d:
    """Returns a 3x3 convolution whose first outputs initially equal its inputs."""
    layer = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def norm(width: int) -> nn.BatchNorm2d:
    """Returns BatchNorm whose scale stays 1."""
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    del layer.weight
    layer.register_buffer("weight", torch.ones(width))
    return layer


class Lookahead:
    """Slow weights that follow the parameters every few steps and then replace them."""

    def __init__(self, model: nn.Module, max_steps: int) -> None:
        self.max_steps = max_steps
        self.values = [parameter.detach() for parameter in model.parameters()]
        self.slow = [value.clone() for value in self.values]

    def update(self, step: int) -> None:
        """Moves the slow weights after a step, if it is their turn."""
        taken = step + 1
        if taken % 5 == 0:
            kept = 0.95**5 * (taken / self.max_steps) ** 3
            torch._foreach_lerp_(self.slow, self.values, 1 - kept)
            torch._foreach_copy_(self.values, self.slow)
