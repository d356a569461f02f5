"""The training of the tutorial and of other recipes in PyTorch, for benchmarking.

By default, the network, loss, averages and augmentation are those of TensorFlow's
tutorial; with --model, they are those of a cifar_jax recipe. It writes no summaries or
checkpoints. The learning rate is constant, as the tutorial's is for the first 136,718
steps of 128 images; only Airbench follows its schedule.

Optimizations: the data stays in device memory as bytes, whole batches are augmented
together, SGD is fused, the moving averages take one call, and the loss is read only for
log lines. --channels_last, --bf16 (autocast) and --compile enable more. On a GPU,
float32 products may use TF32, as they do in JAX.

With --evaluate=N, the initial network instead classifies N images several times; --fold
then folds BatchNorm into the convolutions.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from pytorch_airbench import Airbench, Lookahead
from pytorch_networks import NETWORKS, fold_batch_norms
from pytorch_recipes import (
    RECIPES,
    Recipe,
    decay_of,
    freeze,
    make_optimizer,
    make_schedule,
    summed,
)
from torch import Tensor, nn
from torch.nn import functional

RECORD_BYTES = 1 + 3 * 32 * 32


class Images:
    """The images and labels, with a recipe's preprocessing."""

    def __init__(self, path: str, recipe: Recipe, device: str) -> None:
        records = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
        images = records[:, 1:].reshape(-1, 3, 32, 32)
        self.recipe = recipe
        self.labels = torch.from_numpy(records[:, 0]).to(device).long()
        self.flipped_first = torch.rand(len(images), device=device) < 0.5
        self.images = torch.from_numpy(images)
        if recipe.padding:
            sides = [recipe.padding] * 4
            self.images = functional.pad(self.images, sides, recipe.padding_mode)
        self.images = self.images.to(device)
        mean, deviation = statistics(images, recipe.normalization)
        self.mean = self.center(torch.from_numpy(mean).float().to(device))
        self.deviation = torch.from_numpy(deviation).float().to(device)

    def center(self, images: Tensor) -> Tensor:
        """Returns the images, cropped at the center to the network's size."""
        size = self.recipe.size
        start = (images.shape[-1] - size) // 2
        return images[..., start : start + size, start : start + size]

    def normalized(self, x: Tensor) -> Tensor:
        """Normalizes inputs, possibly in place."""
        if self.recipe.normalization == "image":
            deviation, mean = torch.std_mean(x, (1, 2, 3), correction=0, keepdim=True)
            return (x - mean) / deviation.clamp(min=x[0].numel() ** -0.5)
        x -= self.mean
        if self.recipe.normalization == "channel":
            x /= self.deviation
        return x

    def flipped(self, chosen: Tensor, epoch: int) -> Tensor:
        """Returns which of the chosen images to flip."""
        if self.recipe.alternate:
            return self.flipped_first[chosen] ^ (epoch % 2 == 1)
        return torch.rand(len(chosen), device=chosen.device) < 0.5

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented batches endlessly, in a new order each epoch."""
        count, device = len(self.labels), self.labels.device
        for epoch in itertools.count():
            order = torch.randperm(count, device=device)
            for chosen in order[: count // batch_size * batch_size].split(batch_size):
                x = self.images[chosen]
                if self.recipe.random:
                    x = crops(x, self.recipe.size, self.flipped(chosen, epoch))
                x = x.float()
                if self.recipe.normalization == "image":
                    x = with_random_colors(x)
                yield self.normalized(x), self.labels[chosen]


def statistics(images: np.ndarray, normalization: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean to subtract from all inputs, and the scale to divide by."""
    mean, deviation = np.zeros(images.shape[1:]), np.ones((3, 1, 1))
    if normalization == "mean_image":
        mean = images.mean(axis=0, dtype=np.float64)
    if normalization == "channel":
        for channel in range(3):
            values = images[:, channel]
            mean[channel] = values.mean(dtype=np.float64)
            # The squares of bytes fit into 16 bits.
            squares = np.square(values, dtype=np.uint16).mean(dtype=np.float64)
            deviation[channel] = np.sqrt(squares - mean[channel, 0, 0] ** 2)
    return mean, deviation


def crops(images: Tensor, size: int, flipped: Tensor) -> Tensor:
    """Crops a batch of images at random, and flips some of them."""
    n, channels, height, _ = images.shape
    device = images.device
    positions = torch.arange(size, device=device)
    top, left = torch.randint(height - size + 1, (2, n, 1), device=device)
    rows = top + positions
    columns = left + torch.where(flipped[:, None], size - 1 - positions, positions)
    return images[
        torch.arange(n, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def with_random_colors(x: Tensor) -> Tensor:
    """Changes the brightness and the contrast of each image at random."""
    n, device = len(x), x.device
    x += torch.empty(n, 1, 1, 1, device=device).uniform_(-63, 63)
    factors = torch.empty(n, 1, 1, 1, device=device).uniform_(0.2, 1.8)
    means = x.mean((2, 3), keepdim=True)
    return (x - means) * factors + means


class Averages:
    """Moving averages of the parameters and of BatchNorm's statistics."""

    def __init__(self, model: nn.Module, limit: float) -> None:
        self.limit = limit
        self.values = [
            tensor.detach()
            for tensor in (*model.parameters(), *model.buffers())
            if tensor.is_floating_point()
        ]
        self.averages = [value.clone() for value in self.values]

    def update(self, step: int) -> None:
        """Updates the averages after a step."""
        # Counts from 1, as TensorFlow does.
        decay = min(self.limit, (2 + step) / (11 + step))
        torch._foreach_lerp_(self.averages, self.values, 1 - decay)


def make_averages(
    model: nn.Module, recipe: Recipe, max_steps: int
) -> Averages | Lookahead | None:
    """Returns the averages to update after each step, if the recipe has any."""
    if recipe.lookahead:
        return Lookahead(model, max_steps)
    return Averages(model, recipe.ema_decay) if recipe.ema_decay else None


def make_loss(
    model: nn.Module, recipe: Recipe, device: str, bf16: bool
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], Tensor | float]]:
    """Returns the loss to minimize, and the penalty that only the optimizer applies."""
    kernels = [
        (decay, parameter)
        for name, parameter in model.named_parameters()
        if (decay := decay_of(recipe, name, parameter))
    ]

    def penalty() -> Tensor | float:
        return sum(decay / 2 * kernel.square().sum() for decay, kernel in kernels)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = model(images)
        entropy = functional.cross_entropy(
            logits.float(),
            labels,
            reduction=recipe.reduction,
            label_smoothing=recipe.label_smoothing,
        )
        return entropy + penalty() if recipe.decay_in_loss else entropy

    return loss, (lambda: 0.0) if recipe.decay_in_loss else penalty


def train(options: argparse.Namespace, model: nn.Module, data: Images) -> None:
    """Trains for --max_steps steps, printing the tutorial's log lines."""
    recipe = data.recipe
    loss_of, penalty = make_loss(model, recipe, data.labels.device.type, options.bf16)
    batches = (
        (images.contiguous(memory_format=layout(options)), labels)
        for images, labels in data.batches(options.batch_size)
    )
    if options.compile:
        loss_of = torch.compile(loss_of)
        batch = next(batches)
        # Otherwise, it would be recompiled at the step that freezes parameters.
        for part in (0.0, *recipe.until.values()):
            freeze(model, recipe, part)
            loss_of(*batch).backward()
    optimizer = make_optimizer(model, recipe, options.batch_size)
    schedule = make_schedule(optimizer, recipe, options.max_steps)
    averages = make_averages(model, recipe, options.max_steps)
    for step in range(options.max_steps):
        freeze(model, recipe, step / options.max_steps)
        loss = loss_of(*next(batches))
        logged = step % options.log_frequency == 0
        if logged:
            with torch.no_grad():
                total = loss / summed(recipe, options.batch_size) + penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if averages is not None:
            averages.update(step)
        if logged:
            print(f"step {step}, loss = {total.item():.4f}", flush=True)


@torch.inference_mode()
def evaluate(options: argparse.Namespace, model: nn.Module, data: Images) -> None:
    """Classifies images in several rounds and prints how long each one takes."""
    model.eval()
    if options.fold:
        fold_batch_norms(model)
        model.to(memory_format=layout(options))
    predict = torch.compile(model, dynamic=False) if options.compile else model
    images = data.center(data.images[: options.evaluate])
    for number in range(1 + options.rounds):
        began = time.perf_counter()
        logits = []
        for batch in images.split(options.batch_size):
            x = data.normalized(batch.float())
            logits.append(predict(x.contiguous(memory_format=layout(options))))
        torch.cat(logits).cpu()
        seconds = time.perf_counter() - began
        if number > 0:
            print(f"evaluated {len(images)} images in {seconds:.4f} s", flush=True)


def layout(options: argparse.Namespace) -> torch.memory_format:
    """Returns the memory format of images and kernels."""
    return torch.channels_last if options.channels_last else torch.contiguous_format


def main() -> None:
    """Parses the flags, and trains or evaluates."""
    # Not absl flags: the peers share their flags, and not every peer has absl.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", required=True, help="File of binary records.")
    parser.add_argument("--model", choices=list(RECIPES), default="tutorial")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--max_steps", type=int, default=0)
    parser.add_argument("--log_frequency", type=int, default=10)
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--evaluate", type=int, default=0, help="Number of images.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of evaluation.")
    parser.add_argument("--fold", action="store_true")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"using PyTorch {torch.__version__} on {device}", flush=True)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    data = Images(options.records, RECIPES[options.model], device)
    model = NETWORKS[options.model]().to(device, memory_format=layout(options))
    if isinstance(model, Airbench):
        images = data.center(data.images[:5000]).float()
        model.initialize_whitening(data.normalized(images))
    (evaluate if options.evaluate else train)(options, model, data)


if __name__ == "__main__":
    main()
