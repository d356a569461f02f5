"""MobileNetV2 in PyTorch, for images of 32x32."""

from golden.networks._by_run import ByRun
from torch import Tensor

# Width and stride of each block, by stage.
STAGES = [
    [(16, 1)],
    [(24, 1), (24, 1)],
    [(32, 2), (32, 1), (32, 1)],
    [(64, 2), (64, 1), (64, 1), (64, 1)],
    [(96, 1), (96, 1), (96, 1)],
    [(160, 2), (160, 1), (160, 1)],
    [(320, 1)],
]


class MobileNetV2(ByRun):
    """Sandler et al., 2018, with convolutions in shortcuts where the width changes."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, 32, 3).relu()
        for stage, blocks in enumerate(STAGES, 1):
            for number, (width, stride) in enumerate(blocks, 1):
                expansion = 1 if stage == 1 else 6
                x = self.block(
                    f"stage{stage}_block{number}", x, width, stride, expansion
                )
        return self.logits(self.conv("conv2", x, 1280, 1).relu())

    def block(
        self, name: str, x: Tensor, width: int, stride: int, expansion: int
    ) -> Tensor:
        inside = x.shape[1] * expansion
        y = self.conv(f"{name}_expand", x, inside, 1).relu()
        y = self.conv(f"{name}_depthwise", y, inside, 3, stride, inside).relu()
        y = self.conv(f"{name}_project", y, width, 1)
        if stride == 2:
            return y
        if x.shape[1] == width:
            return x + y
        return self.conv(f"{name}_shortcut", x, width, 1) + y


NETWORKS = {"mobilenet_v2": MobileNetV2}
