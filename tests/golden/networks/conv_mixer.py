"""ConvMixers in PyTorch."""

import functools

from torch import Tensor, nn
from torch.nn import functional


class ConvMixer(nn.Module):
    """Trockman and Kolter, 2022: each convolution is followed by GELU and BatchNorm."""

    def __init__(self, width: int, depth: int, kernel: int, patch: int) -> None:
        super().__init__()
        self.depth = depth
        self.add("patches", nn.Conv2d(3, width, patch, patch))
        for number in range(1, depth + 1):
            places = nn.Conv2d(width, width, kernel, padding="same", groups=width)
            self.add(f"block{number}_places", places)
            self.add(f"block{number}_channels", nn.Conv2d(width, width, 1))
        self.predictions = nn.Linear(width, 10)

    def add(self, name: str, convolution: nn.Conv2d) -> None:
        self.add_module(f"{name}_conv", convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(convolution.out_channels))

    def layer(self, name: str, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers[f"{name}_bn"](functional.gelu(layers[f"{name}_conv"](x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer("patches", x)
        for number in range(1, self.depth + 1):
            x = x + self.layer(f"block{number}_places", x)
            x = self.layer(f"block{number}_channels", x)
        return self.predictions(x.mean(dim=(2, 3)))


NETWORKS = {
    "conv_mixer": functools.partial(ConvMixer, 256, 8, 5, 2),
    "conv_mixer(32, depth=2, kernel=4, patch=4)": functools.partial(
        ConvMixer, 32, 2, 4, 4
    ),
}
