"""GoogLeNet in PyTorch, for images of 32x32, with BatchNorm."""

import torch
from golden.networks._by_run import ByRun
from torch import Tensor
from torch.nn import functional

# Table 1 of the paper: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE = """
    3a  64  96 128 16  32  32
    3b 128 128 192 32  96  64
    4a 192  96 208 16  48  64
    4b 160 112 224 24  64  64
    4c 128 128 256 24  64  64
    4d 112 144 288 32  64  64
    4e 256 160 320 32 128 128
    5a 256 160 320 32 128 128
    5b 384 192 384 48 128 128
"""


class GoogLeNet(ByRun):
    """Szegedy et al., 2015, with two 3x3 convolutions instead of a 5x5 one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, 192, 3).relu()
        for row in TABLE.split("\n")[1:-1]:
            name, *widths = row.split()
            if name in ("4a", "5a"):
                x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
            x = self.inception(f"inception_{name}", x, *map(int, widths))
        return self.logits(x)

    def inception(
        self, name: str, x: Tensor, n1: int, r3: int, n3: int, r5: int, n5: int, np: int
    ) -> Tensor:
        b1 = self.conv(f"{name}_1x1", x, n1, 1)
        b3 = self.conv(f"{name}_3x3_reduce", x, r3, 1).relu()
        b3 = self.conv(f"{name}_3x3", b3, n3, 3)
        b5 = self.conv(f"{name}_5x5_reduce", x, r5, 1).relu()
        b5 = self.conv(f"{name}_5x5_1", b5, n5, 3).relu()
        b5 = self.conv(f"{name}_5x5_2", b5, n5, 3)
        pooled = functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        pooled = self.conv(f"{name}_pool", pooled, np, 1)
        return torch.cat([b1, b3, b5, pooled], 1).relu()


NETWORKS = {"googlenet": GoogLeNet}
