"""ResNets in PyTorch: basic blocks, and a stem that keeps the size."""

import functools

from torch import Tensor, nn
from torch.nn import functional


class ResNet(nn.Module):
    """He et al., 2016, with 1x1 convolutions as shortcuts where shapes change."""

    def __init__(self, depths: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.add("conv1", 3, width, 3, 1)
        self.blocks = []
        inputs = width
        for stage, depth in enumerate(depths, 2):
            outputs = width << (stage - 2)
            for index in range(1, depth + 1):
                strides = 2 if index == 1 and stage > 2 else 1
                name = f"conv{stage}_block{index}"
                self.blocks.append(name)
                if strides > 1 or inputs != outputs:
                    self.add(f"{name}_0", inputs, outputs, 1, strides)
                self.add(f"{name}_1", inputs, outputs, 3, strides)
                self.add(f"{name}_2", outputs, outputs, 3, 1)
                inputs = outputs
        self.predictions = nn.Linear(inputs, 10)

    def add(self, name: str, inputs: int, outputs: int, size: int, strides: int):
        conv = nn.Conv2d(inputs, outputs, size, strides, size // 2, bias=False)
        self.add_module(f"{name}_conv", conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def conv(self, name: str, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers[f"{name}_bn"](layers[f"{name}_conv"](x))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv("conv1", x))
        for name in self.blocks:
            shortcut = x
            if hasattr(self, f"{name}_0_conv"):
                shortcut = self.conv(f"{name}_0", x)
            x = functional.relu(self.conv(f"{name}_1", x))
            x = functional.relu(self.conv(f"{name}_2", x) + shortcut)
        return self.predictions(x.mean(dim=(2, 3)))


NETWORKS = {
    "resnet18": functools.partial(ResNet, (2, 2, 2, 2)),
}
