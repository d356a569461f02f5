"""The tutorial's network and training in PyTorch, for benchmarking.

The network, loss, averages and augmentation are those of TensorFlow's tutorial. It
writes no summaries and no checkpoints, and its learning rate stays at 0.1, as the
tutorial's does for 136,718 steps of 128 images.

Optimizations: the data stays in device memory as bytes, and a whole batch is augmented
at once; SGD is fused, and the moving averages take one call; the loss is read only at
log lines. --channels_last, --bf16 (autocast) and --compile enable further ones. On a
GPU, float32 products may use TF32, as they do in JAX.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

RECORD_BYTES = 1 + 3 * 32 * 32
CROP_SIZE = 24


class TutorialCNN(nn.Module):
    """Two 5x5 convolutions with pooling and LRN, then three dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        # With ceil_mode, padding is added at the bottom and right, as by TensorFlow's
        # SAME for these sizes.
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        # PyTorch divides alpha by size: 0.001 / 9, as in the tutorial.
        self.norm = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
        self.local3 = nn.Linear(6 * 6 * 64, 384)
        self.local4 = nn.Linear(384, 192)
        self.softmax_linear = nn.Linear(192, 10)
        deviations = (0.05, 0.05, 0.04, 0.04, 1 / 192)
        starts = (0.0, 0.1, 0.1, 0.1, 0.0)
        layers = (self.conv1, self.conv2, self.local3, self.local4, self.softmax_linear)
        for layer, std, start in zip(layers, deviations, starts, strict=True):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.constant_(layer.bias, start)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.norm(self.pool(functional.relu(self.conv1(images))))
        x = self.pool(self.norm(functional.relu(self.conv2(x))))
        x = functional.relu(self.local3(x.flatten(1)))
        x = functional.relu(self.local4(x))
        return self.softmax_linear(x)


def distorted(images: Tensor) -> Tensor:
    """Crops, flips, distorts and standardizes a batch of images given as bytes."""
    n, channels, size, _ = images.shape
    device = images.device
    positions = torch.arange(CROP_SIZE, device=device)
    top, left = torch.randint(size - CROP_SIZE + 1, (2, n, 1), device=device)
    flip = torch.rand(n, 1, device=device) < 0.5
    rows = top + positions
    columns = left + torch.where(flip, CROP_SIZE - 1 - positions, positions)
    x = images[
        torch.arange(n, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ].float()
    x += torch.empty(n, 1, 1, 1, device=device).uniform_(-63, 63)
    factors = torch.empty(n, 1, 1, 1, device=device).uniform_(0.2, 1.8)
    means = x.mean((2, 3), keepdim=True)
    x = (x - means) * factors + means
    deviation, mean = torch.std_mean(x, (1, 2, 3), correction=0, keepdim=True)
    return (x - mean) / deviation.clamp(min=x[0].numel() ** -0.5)


def batches(path: str, batch_size: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields augmented batches endlessly, in a new order each epoch."""
    records = torch.from_numpy(np.fromfile(path, np.uint8)).to(device)
    records = records.view(-1, RECORD_BYTES)
    labels = records[:, 0].long()
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    while True:
        order = torch.randperm(len(images), device=device)
        for chosen in order[: len(order) // batch_size * batch_size].split(batch_size):
            yield distorted(images[chosen]), labels[chosen]


def main() -> None:
    """Parses the flags and trains."""
    # Not absl's flags: the peers share their flags, and not every one has absl.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", required=True, help="File of binary records.")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--max_steps", type=int, required=True)
    parser.add_argument("--log_frequency", type=int, default=10)
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    train(parser.parse_args())


def train(options: argparse.Namespace) -> None:
    """Trains for --max_steps steps, printing the tutorial's log lines."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"using PyTorch {torch.__version__} on {device}", flush=True)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = TutorialCNN().to(device, memory_format=layout)
    parameters = list(model.parameters())
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.1, fused=True)

    def total_loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=options.bf16):
            logits = model(images)
        decayed = (model.local3.weight, model.local4.weight)
        decay = sum(0.004 / 2 * weight.square().sum() for weight in decayed)
        return functional.cross_entropy(logits.float(), labels) + decay

    if options.compile:
        total_loss = torch.compile(total_loss)
    data = batches(options.records, options.batch_size, device)
    for step in range(options.max_steps):
        images, labels = next(data)
        loss = total_loss(images.contiguous(memory_format=layout), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(
            0.9999, (2 + step) / (11 + step)
        )  # counts from 1, as TensorFlow does
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
        if step % options.log_frequency == 0:
            print(f"step {step}, loss = {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
