"""DenseNet-BC in PyTorch (Huang et al., 2017)."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu


class DenseNet(nn.Module):
    """Blocks of bottleneck layers, and compression by one half between them."""

    def __init__(self, layers: list[int], growth: int) -> None:
        super().__init__()
        self.order = []
        channels = 2 * growth
        self.conv1_conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        for block, count in enumerate(layers, 1):
            for layer in range(1, count + 1):
                name = f"block{block}_layer{layer}"
                self.order.append(name)
                self.add(f"{name}_1", channels, 4 * growth, 1)
                self.add(f"{name}_2", 4 * growth, growth, 3)
                channels += growth
            if block < len(layers):
                self.order.append(f"transition{block}")
                self.add(f"transition{block}", channels, channels // 2, 1)
                channels //= 2
        self.last_bn = nn.BatchNorm2d(channels)
        self.predictions = nn.Linear(channels, 10)

    def add(self, name: str, inputs: int, outputs: int, size: int) -> None:
        conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(inputs))
        self.add_module(f"{name}_conv", conv)

    def composite(self, name: str, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers[f"{name}_conv"](relu(layers[f"{name}_bn"](x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1_conv(x)
        for name in self.order:
            if name.startswith("transition"):
                x = avg_pool2d(self.composite(name, x), 2)
            else:
                new = self.composite(f"{name}_2", self.composite(f"{name}_1", x))
                x = torch.cat([x, new], dim=1)
        x = relu(self.last_bn(x)).mean(dim=(2, 3))
        return self.predictions(x)


NETWORKS = {
    "densenet": functools.partial(DenseNet, [16, 16, 16], 12),
    "densenet121": functools.partial(DenseNet, [6, 12, 24, 16], 32),
}
