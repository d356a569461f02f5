"""DLA-34 and a simpler variant in PyTorch, for images of 32x32."""

import torch
from golden.networks._by_run import ByRun
from torch import Tensor


class DLA(ByRun):
    """Yu et al., 2018."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, 16, 3).relu()
        x = self.conv("conv2", x, 16, 3).relu()
        x = self.conv("conv3", x, 32, 3).relu()
        x = self.one_level("tree1", x, 64, 1)
        x = self.two_levels("tree2", x, 128, 2)
        x = self.two_levels("tree3", x, 256, 2)
        x = self.one_level("tree4", x, 512, 2)
        return self.logits(x)

    def one_level(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        left = self.block(f"{name}_left", x, width, stride)
        right = self.block(f"{name}_right", left, width)
        return self.root(name, left, right)

    def two_levels(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        of_input = self.block(f"{name}_input", x, width, stride)
        below = self.one_level(f"{name}_level1", x, width, stride)
        left = self.block(f"{name}_left", below, width)
        right = self.block(f"{name}_right", left, width)
        return self.root(name, of_input, below, left, right)

    def root(self, name: str, *children: Tensor) -> Tensor:
        width = children[0].shape[1]
        return self.conv(f"{name}_root", torch.cat(children, 1), width, 1).relu()

    def block(self, name: str, x: Tensor, width: int, stride: int = 1) -> Tensor:
        y = self.conv(f"{name}_conv1", x, width, 3, stride).relu()
        y = self.conv(f"{name}_conv2", y, width, 3)
        if x.shape != y.shape:
            x = self.conv(f"{name}_shortcut", x, width, 1, stride)
        return (x + y).relu()


class SimpleDLA(DLA):
    """With a tree of two levels that consists of two trees of one level."""

    def two_levels(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        left = self.one_level(f"{name}_left", x, width, stride)
        right = self.one_level(f"{name}_right", left, width, 1)
        return self.root(name, left, right)


NETWORKS = {"dla": DLA, "simple_dla": SimpleDLA}
