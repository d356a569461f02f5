"""ResNeXt-29 in PyTorch, with the shapes of kuangliu/pytorch-cifar."""

import functools

from torch import Tensor, nn
from torch.nn.functional import relu


class Unit(nn.Module):
    """A block: its convolutions by number, 0 for the shortcut, and their norms."""

    def __init__(self, inputs: int, middle: int, stride: int, groups: int) -> None:
        super().__init__()
        outputs = 2 * middle
        grouped = functools.partial(nn.Conv2d, groups=groups, padding=1)
        convs = {
            "1": nn.Conv2d(inputs, middle, 1, bias=False),
            "2": grouped(middle, middle, 3, stride=stride, bias=False),
            "3": nn.Conv2d(middle, outputs, 1, bias=False),
        }
        if (stride, inputs) != (1, outputs):
            convs["0"] = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        norms = {key: nn.BatchNorm2d(conv.out_channels) for key, conv in convs.items()}
        # Not registered here, but by the network, under flat names.
        self.layers = [convs, norms]

    def apply_one(self, number: str, x: Tensor) -> Tensor:
        convs, norms = self.layers
        return norms[number](convs[number](x))

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.apply_one("1", x))
        y = relu(self.apply_one("2", y))
        y = self.apply_one("3", y)
        if "0" in self.layers[0]:
            x = self.apply_one("0", x)
        return relu(x + y)


class ResNeXt(nn.Module):
    """Three stages of three blocks, after a 1x1 convolution."""

    def __init__(self, cardinality: int, width: int) -> None:
        super().__init__()
        self.conv1_conv = nn.Conv2d(3, 64, 1, bias=False)
        self.conv1_bn = nn.BatchNorm2d(64)
        self.units = []
        inputs, middle = 64, cardinality * width
        for stage in (2, 3, 4):
            for index in (1, 2, 3):
                stride = 2 if stage > 2 and index == 1 else 1
                unit = Unit(inputs, middle, stride, cardinality)
                self.units.append(unit)
                for kind, layers in zip(("conv", "bn"), unit.layers, strict=True):
                    for number, layer in layers.items():
                        name = f"conv{stage}_block{index}_{number}_{kind}"
                        self.add_module(name, layer)
                inputs = 2 * middle
            middle *= 2
        self.predictions = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.conv1_bn(self.conv1_conv(x)))
        for unit in self.units:
            x = unit(x)
        return self.predictions(x.mean(dim=(2, 3)))


NETWORKS = {"resnext29": functools.partial(ResNeXt, 32, 4)}
