"""ResNets in PyTorch, with a stem that keeps the size of the image."""

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


class BottleneckResNet(nn.Module):
    """The deep ResNets of He et al., 2016, with the stride at the 3x3 convolution."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1_conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.conv1_bn = nn.BatchNorm2d(64)
        self.blocks = []
        inputs = 64
        for i, depth in enumerate(depths):
            for j in range(depth):
                name = f"conv{i + 2}_block{j + 1}"
                stride = 2 if i > 0 and j == 0 else 1
                self.add_block(name, inputs, 64 * 2**i, stride)
                inputs = 4 * 64 * 2**i
        self.predictions = nn.Linear(inputs, 10)

    def add_block(self, name: str, inputs: int, middle: int, stride: int) -> None:
        self.blocks.append(name)
        convs = {
            "1": nn.Conv2d(inputs, middle, 1, bias=False),
            "2": nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False),
            "3": nn.Conv2d(middle, 4 * middle, 1, bias=False),
        }
        if stride != 1 or inputs != 4 * middle:
            convs["0"] = nn.Conv2d(inputs, 4 * middle, 1, stride, bias=False)
        for number, conv in convs.items():
            self.add_module(f"{name}_{number}_conv", conv)
            self.add_module(f"{name}_{number}_bn", nn.BatchNorm2d(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        layer = dict(self.named_children())
        x = functional.relu(self.conv1_bn(self.conv1_conv(x)))
        for name in self.blocks:
            y = x
            for number in "123":
                y = layer[f"{name}_{number}_conv"](y)
                y = layer[f"{name}_{number}_bn"](y)
                if number != "3":
                    y = functional.relu(y)
            if f"{name}_0_conv" in layer:
                x = layer[f"{name}_0_bn"](layer[f"{name}_0_conv"](x))
            x = functional.relu(x + y)
        return self.predictions(x.mean(dim=(2, 3)))


class PaddedBlock(nn.Module):
    """A block of the ResNets for CIFAR of He et al., 2016, with option A."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.new = outputs - inputs
        first = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.layers = nn.Sequential(
            first,
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        x = functional.avg_pool2d(x, 1, self.stride)
        x = functional.pad(x, (0, 0, 0, 0, 0, self.new))
        return functional.relu(x + y)


class PaddedResNet(nn.Module):
    """He et al., 2016, section 4.2: 6n + 2 layers."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1_conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.conv1_bn = nn.BatchNorm2d(16)
        self.blocks = []
        inputs = 16
        for stage, outputs in ((2, 16), (3, 32), (4, 64)):
            for index in range(n):
                block = PaddedBlock(inputs, outputs)
                self.blocks.append(block)
                name = f"conv{stage}_block{index + 1}"
                conv1, norm1, _, conv2, norm2 = block.layers
                self.add_module(f"{name}_1_conv", conv1)
                self.add_module(f"{name}_1_bn", norm1)
                self.add_module(f"{name}_2_conv", conv2)
                self.add_module(f"{name}_2_bn", norm2)
                inputs = outputs
        self.predictions = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1_bn(self.conv1_conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.predictions(x.mean(dim=(2, 3)))


NETWORKS = {
    "resnet18": functools.partial(ResNet, (2, 2, 2, 2)),
    "resnet34": functools.partial(ResNet, (3, 4, 6, 3)),
    "cifar_resnet50": functools.partial(BottleneckResNet, (3, 4, 6, 3)),
    "cifar_resnet101": functools.partial(BottleneckResNet, (3, 4, 23, 3)),
    "resnet20": functools.partial(PaddedResNet, 3),
    "resnet32": functools.partial(PaddedResNet, 5),
    "resnet44": functools.partial(PaddedResNet, 7),
    "resnet56": functools.partial(PaddedResNet, 9),
    "resnet110": functools.partial(PaddedResNet, 18),
}
