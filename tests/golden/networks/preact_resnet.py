"""Residual networks with pre-activation in PyTorch: wide, plain, and with SE."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class PreActivated(nn.Module):
    """Stages of BN-ReLU-conv-BN-ReLU-conv, with or without squeeze-and-excitation.

    The layers of block b of stage s are named conv{s}_block{b}_..., from stage 2 on.
    """

    def __init__(
        self,
        blocks: list[int],
        stem: int,
        widths: list[int],
        normalized_stem: bool = False,
        normalized_end: bool = False,
        reduction: int = 0,
    ) -> None:
        super().__init__()
        self.conv1_conv = conv3x3(3, stem)
        if normalized_stem:
            self.conv1_bn = nn.BatchNorm2d(stem)
        self.blocks = []
        inputs = stem
        for i, (count, outputs) in enumerate(zip(blocks, widths, strict=True)):
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                self.add_block(f"conv{i + 2}_block{j + 1}", inputs, outputs, stride)
                inputs = outputs
        if reduction:
            for name, outputs in self.blocks:
                squeeze = nn.Linear(outputs, outputs // reduction)
                self.add_module(f"{name}_squeeze", squeeze)
                excite = nn.Linear(outputs // reduction, outputs)
                self.add_module(f"{name}_excite", excite)
        if normalized_end:
            self.last_bn = nn.BatchNorm2d(inputs)
        self.predictions = nn.Linear(inputs, 10)

    def add_block(self, name: str, inputs: int, outputs: int, stride: int) -> None:
        self.blocks.append((name, outputs))
        self.add_module(f"{name}_1_bn", nn.BatchNorm2d(inputs))
        self.add_module(f"{name}_1_conv", conv3x3(inputs, outputs, stride))
        self.add_module(f"{name}_2_bn", nn.BatchNorm2d(outputs))
        self.add_module(f"{name}_2_conv", conv3x3(outputs, outputs))
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.add_module(f"{name}_0_conv", projection)

    def forward(self, x: Tensor) -> Tensor:
        layer = dict(self.named_children())
        x = self.conv1_conv(x)
        if "conv1_bn" in layer:
            x = relu(self.conv1_bn(x))
        for name, _ in self.blocks:
            y = relu(layer[f"{name}_1_bn"](x))
            if f"{name}_0_conv" in layer:
                x = layer[f"{name}_0_conv"](y)
            y = layer[f"{name}_1_conv"](y)
            y = layer[f"{name}_2_conv"](relu(layer[f"{name}_2_bn"](y)))
            if f"{name}_squeeze" in layer:
                means = y.mean(dim=(2, 3))
                hidden = relu(layer[f"{name}_squeeze"](means))
                weights = torch.sigmoid(layer[f"{name}_excite"](hidden))
                y = y * weights[:, :, None, None]
            x = x + y
        if "last_bn" in layer:
            x = relu(self.last_bn(x))
        return self.predictions(x.mean(dim=(2, 3)))


def wide(depth: int, factor: int) -> PreActivated:
    """Zagoruyko and Komodakis, 2016: WRN-depth-factor."""
    count = (depth - 4) // 6
    widths = [16 * factor, 32 * factor, 64 * factor]
    return PreActivated([count] * 3, 16, widths, normalized_end=True)


WIDTHS = [64, 128, 256, 512]
# Of kuangliu/pytorch-cifar: nothing is normalized after the last block.
plain = functools.partial(PreActivated, [2, 2, 2, 2], 64, WIDTHS)

NETWORKS = {
    "wrn": functools.partial(wide, 28, 10),
    "preact_resnet18": plain,
    "senet18": functools.partial(plain, normalized_stem=True, reduction=16),
}
