"""LeNet-5 in PyTorch, for color images, with ReLU and max pooling."""

from torch import Tensor, nn
from torch.nn import functional


class LeNet(nn.Module):
    """LeCun et al., 1998."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.predictions = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.conv1(x).relu(), 2)
        x = functional.max_pool2d(self.conv2(x).relu(), 2)
        # Flax keeps channels last.
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = self.fc2(self.fc1(x).relu()).relu()
        return self.predictions(x)


NETWORKS = {"lenet": LeNet}
