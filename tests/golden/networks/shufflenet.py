"""ShuffleNets in PyTorch, for images of 32x32."""

import functools

import torch
from golden.networks._by_run import ByRun
from torch import Tensor, nn
from torch.nn import functional


class ShuffleNet(ByRun):
    """Zhang et al., 2018, with a ReLU after depthwise convolutions."""

    def __init__(self, groups: int, widths: tuple[int, int, int]) -> None:
        self.groups, self.widths = groups, widths
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, 24, 1).relu()
        for stage, width in enumerate(self.widths, 1):
            for number in range(1, 9 if stage == 2 else 5):
                name = f"stage{stage}_block{number}"
                if number > 1:
                    x = (x + self.bottleneck(name, x, width, 1)).relu()
                    continue
                y = self.bottleneck(name, x, width - x.shape[1], 2)
                x = functional.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
                x = torch.cat([y, x], 1).relu()
        return self.logits(x)

    def bottleneck(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        groups = 1 if x.shape[1] == 24 else self.groups
        inside = width // 4
        y = self.conv(f"{name}_conv1", x, inside, 1, groups=groups).relu()
        if groups > 1:
            y = nn.ChannelShuffle(groups)(y)
        y = self.conv(f"{name}_conv2", y, inside, 3, stride, groups=inside).relu()
        return self.conv(f"{name}_conv3", y, width, 1, groups=self.groups)


NETWORKS = {
    "shufflenet": functools.partial(ShuffleNet, 2, (200, 400, 800)),
    "shufflenet(groups=3)": functools.partial(ShuffleNet, 3, (240, 480, 960)),
}
