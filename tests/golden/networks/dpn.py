"""Dual path networks in PyTorch, with the shapes of kuangliu/pytorch-cifar."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class DPN(nn.Module):
    """Chen et al., 2017: a sum on the residual path, a list on the dense path."""

    # Channels of the bottleneck, of the residual path, and of a piece of the dense one.
    STAGES = ((96, 256, 16), (192, 512, 32), (384, 1024, 24), (768, 2048, 128))

    def __init__(self, blocks: list[int]) -> None:
        super().__init__()
        self.add("conv1", 3, 64, 3)
        self.order = []
        inputs = 64
        for stage, count in enumerate(blocks):
            middle, residual, piece = self.STAGES[stage]
            for i in range(count):
                name = f"conv{stage + 2}_block{i + 1}"
                self.order.append((name, residual))
                stride = 2 if stage > 0 and i == 0 else 1
                self.add(f"{name}_1", inputs, middle, 1)
                self.add(f"{name}_2", middle, middle, 3, stride, 32)
                self.add(f"{name}_3", middle, residual + piece, 1)
                if i == 0:
                    self.add(f"{name}_0", inputs, residual + piece, 1, stride)
                # The first block's shortcut already has one piece.
                inputs = residual + (i + 2) * piece
        self.predictions = nn.Linear(inputs, 10)

    def add(self, name, inputs, outputs, size, stride=1, groups=1) -> None:
        conv = nn.Conv2d(
            inputs, outputs, size, stride, size // 2, groups=groups, bias=False
        )
        self.add_module(f"{name}_conv", conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())

        def normalized(name: str, x: Tensor) -> Tensor:
            return layers[f"{name}_bn"](layers[f"{name}_conv"](x))

        x = relu(normalized("conv1", x))
        for name, residual in self.order:
            y = relu(normalized(f"{name}_1", x))
            y = relu(normalized(f"{name}_2", y))
            y = normalized(f"{name}_3", y)
            if f"{name}_0_conv" in layers:
                x = normalized(f"{name}_0", x)
            whole, pieces = x.tensor_split([residual], dim=1)
            more, piece = y.tensor_split([residual], dim=1)
            x = relu(torch.cat([whole + more, pieces, piece], dim=1))
        return self.predictions(x.mean(dim=(2, 3)))


NETWORKS = {
    "dpn26": functools.partial(DPN, [2, 2, 2, 2]),
    "dpn92": functools.partial(DPN, [3, 4, 20, 3]),
}
