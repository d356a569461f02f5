"""ShuffleNetV2 in PyTorch, for images of 32x32."""

import functools

import torch
from golden.networks._by_run import ByRun
from torch import Tensor, nn


class ShuffleNetV2(ByRun):
    """Ma et al., 2018."""

    def __init__(self, widths: tuple[int, int, int], last: int) -> None:
        self.widths, self.last = widths, last
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, 24, 3).relu()
        for stage, width in enumerate(self.widths, 1):
            for number in range(1, 9 if stage == 2 else 5):
                name = f"stage{stage}_block{number}"
                if number == 1:
                    inputs = x.shape[1]
                    left = self.conv(f"{name}_left_conv1", x, inputs, 3, 2, inputs)
                    left = self.conv(f"{name}_left_conv2", left, width // 2, 1).relu()
                    right = self.branch(name, x, width // 2, 2)
                else:
                    left, right = x.tensor_split(2, 1)
                    right = self.branch(name, right, width // 2, 1)
                x = nn.ChannelShuffle(2)(torch.cat([left, right], 1))
        return self.logits(self.conv("conv2", x, self.last, 1).relu())

    def branch(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        x = self.conv(f"{name}_conv1", x, width, 1).relu()
        x = self.conv(f"{name}_conv2", x, width, 3, stride, width)
        return self.conv(f"{name}_conv3", x, width, 1).relu()


NETWORKS = {"shufflenet_v2": functools.partial(ShuffleNetV2, (116, 232, 464), 1024)}
