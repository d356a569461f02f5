"""What defines a run: one frozen dataclass, from which the train flags are made."""

import dataclasses
from typing import Any, get_args

from cifar_jax import models
from cifar_jax.config.options import NOT_GIVEN, option, settled
from cifar_jax.config.recipes import RECIPES
from cifar_jax.data import sources
from cifar_jax.data.inputs import Inputs, Normalization, Views
from cifar_jax.devices.strategies import MODES
from cifar_jax.errors import UserError
from cifar_jax.models import MODELS
from cifar_jax.ops import Implementation
from cifar_jax.optimization.optimizers import Schedule

# Height and width of the data's images.
_IMAGE_SIZE = 32
# Of numbers of steps and images, which are int32 on the device.
_LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a training run.

    What is not given is what the recipe says, or else what the tutorial does.

    Raises:
        UserError: a value is outside its range.
    """

    recipe: str = option(
        "tutorial",
        "Named settings; single flags override them.",
        choices=tuple(RECIPES),
        fixed=True,
    )
    max_steps: int = option(
        1_000_000,
        "Train until this step. The schedules drops and cosine end there.",
        at_least=1,
        at_most=_LARGEST,
    )
    batch_size: int = option(
        128,
        "Images in one training step, over all devices together.",
        at_least=1,
        at_most=_LARGEST,
        fixed=True,
    )
    train_dir: str | None = option(
        "cifar10_train",
        "Folder of the run: checkpoints, config, log, summaries. A run that lies "
        "there is resumed.",
    )
    dataset: str = option(
        "auto",
        "cifar10; digits (a small stand-in that needs no download); or auto: "
        "cifar10, and digits only if that is neither on disk nor reachable.",
        choices=sources.NAMES,
        fixed=True,
    )
    data_dir: str | None = option(
        None,
        "Folder with the prepared data set, or with one of the official CIFAR-10 "
        "archives. Default: $TFDS_DATA_DIR, or ~/tensorflow_datasets.",
    )
    validation_size: int = option(
        0,
        "Hold this many training images out, for eval --eval_data=validation.",
        at_least=0,
        at_most=_LARGEST,
        fixed=True,
    )
    model: str = option("tutorial", "The network.", choices=MODELS.keys(), fixed=True)
    image_size: int = option(
        24, "Height and width of what the network sees.", at_least=1, fixed=True
    )
    padding: int = option(
        0,
        "Black pixels added at each side before a random crop.",
        at_least=0,
        at_most=_IMAGE_SIZE,
        fixed=True,
    )
    random_crop: bool = option(
        True, "Cut inputs out anywhere in training; else out of the centre.", fixed=True
    )
    random_flip: bool = option(
        True, "Mirror every other input, at random, in training.", fixed=True
    )
    brightness: float = option(
        63.0,
        "Change brightness at random in training by at most this, of 255.",
        at_least=0,
        fixed=True,
    )
    contrast: float = option(
        0.8,
        "Change contrast at random in training by a factor of 1 - this to 1 + this.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    normalization: Normalization = option(
        "image",
        "Last, scale inputs: image, each to mean 0 and deviation 1; channel, the "
        "training set's channels to that; mean_image, only subtract the training set's "
        "mean image.",
        choices=get_args(Normalization),
        fixed=True,
    )
    views: Views = option(
        1,
        "Evaluate the mean over so many views of an image: 1, its centre; 2, its "
        "mirror image as well; 10, four corners and the centre and their mirror "
        "images.",
        choices=get_args(Views),
        fixed=True,
    )
    use_fp16: bool = option(
        False,
        "Round the operands of convolutions and dense layers to bfloat16; parameters, "
        "loss and averages stay float32.",
        fixed=True,
    )
    ops: Implementation = option(
        "auto",
        "How operations are computed: plain, by XLA's own; fast, by ways on which its "
        "CPU code is quicker; auto, fast on a CPU and plain elsewhere.",
        choices=get_args(Implementation),
        fixed=True,
    )
    num_devices: int | None = option(
        None,
        "Use the first so many devices. Default: all.",
        at_least=1,
        at_most=_LARGEST,
    )
    data_parallel: str = option(
        "jit",
        "How a step is spread over devices: jit, divided by XLA; shard_map or pmap, "
        "a program for each share of the batch.",
        choices=tuple(MODES),
    )
    seed: int = option(
        0,
        "Of the initialisation, the order and the distortions.",
        at_least=0,
        at_most=2**32 - 1,
        fixed=True,
    )
    learning_rate: float = option(
        0.1, "Learning rate, at its highest.", above=0, fixed=True
    )
    bias_learning_rate_factor: float = option(
        1.0, "The learning rate of biases is multiplied by this.", above=0, fixed=True
    )
    schedule: Schedule = option(
        "staircase",
        "How the learning rate falls: staircase, times --learning_rate_decay_factor "
        "every --num_epochs_per_decay; drops, times that at each of "
        "--learning_rate_drops; cosine, along half a cosine to 0 at --max_steps.",
        choices=get_args(Schedule),
        fixed=True,
    )
    learning_rate_decay_factor: float = option(
        0.1, "What the learning rate is multiplied by at a time.", above=0, fixed=True
    )
    num_epochs_per_decay: float = option(
        350.0, "Epochs of 50,000 images between these.", above=0, fixed=True
    )
    learning_rate_drops: tuple[float, ...] = option(
        (), "When, as rising shares of --max_steps: 0.8,0.9, say.", fixed=True
    )
    warmup: float = option(
        0.0,
        "Share of --max_steps over which the learning rate first rises in a line.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    momentum: float = option(0.0, "Of SGD.", at_least=0, at_most=1, fixed=True)
    nesterov: bool = option(False, "Momentum as Nesterov's.", fixed=True)
    weight_decay: float = option(
        0.004,
        "Of the kernels, in the loss: of all of them, or of the layers that the "
        "network names, by its factors. Of the tutorial's, local3 and local4.",
        at_least=0,
        fixed=True,
    )
    label_smoothing: float = option(
        0.0,
        "Share of each label's weight in the loss that is spread over all classes.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    ema_decay: float = option(
        0.9999,
        "Ceiling of the decay of the moving averages: of the parameters, and of "
        "BatchNorm's statistics.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    log_frequency: int = option(
        10, "Print the loss every this many steps.", at_least=1, at_most=_LARGEST
    )
    summary_frequency: int = option(
        100, "Write summaries every this many steps.", at_least=1, at_most=_LARGEST
    )
    save_interval_secs: float = option(
        600.0, "Save a checkpoint every this many seconds.", at_least=0
    )
    log_device_placement: bool = option(
        False, "Print where parameters, data and compiled code live."
    )
    profile: bool = option(
        False,
        "Write a trace of some steps to TRAIN_DIR/profile, for XProf and Perfetto.",
    )

    # Not a setting: the recipe that the values were settled by. `dataclasses.replace`
    # hands it on.
    settled_by: dataclasses.InitVar[str | None] = None

    def __post_init__(self, settled_by: str | None) -> None:
        _settle(self)
        if settled_by not in (None, self.recipe):
            raise UserError(
                f"recipe={self.recipe!r} cannot replace {settled_by!r}, whose values "
                f"would stay; write Config(recipe={self.recipe!r}, ...) instead"
            )
        object.__setattr__(self, "settled_by", self.recipe)
        if self.profile and self.train_dir is None:
            raise UserError("--profile needs a --train_dir to write its trace to")
        if self.nesterov and not self.momentum:
            raise UserError("--nesterov needs a --momentum")
        if self.padding and not self.random_crop:
            raise UserError(
                f"--padding={self.padding} needs --random_crop; give --padding=0"
            )
        if self.learning_rate_drops and self.schedule != "drops":
            raise UserError(
                f"--schedule={self.schedule} has no --learning_rate_drops; leave them "
                "empty (--learning_rate_drops=), or give --schedule=drops"
            )
        smallest = models.create(self.model).smallest_image
        if not smallest <= self.image_size <= _IMAGE_SIZE:
            raise UserError(
                f"--image_size={self.image_size} must be at least {smallest}, which "
                f"--model={self.model} needs, and at most {_IMAGE_SIZE}, the size of "
                "the images"
            )

    @property
    def inputs(self) -> Inputs:
        """What is done to images before the network sees them."""
        return Inputs(
            size=self.image_size,
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(Inputs)
                if field.name != "size"
            },
        )

    @property
    def decay_steps(self) -> int:
        """Steps from one drop of the learning rate to the next of the staircase.

        As in the tutorial, where an epoch is 50,000 images whatever the data set;
        136,718 at a batch size of 128.
        """
        steps = 50_000 / self.batch_size * self.num_epochs_per_decay
        return max(1, int(min(steps, _LARGEST)))


def default(field: dataclasses.Field, recipe: str) -> Any:
    """What a field of Config is under a recipe when nothing else is said."""
    return RECIPES[recipe].settings.get(field.name, field.metadata["default"])


def _settle(config: Config) -> None:
    """Checks the values; the recipe's take the place of those that were not given."""
    recipe, *others = dataclasses.fields(Config)
    if config.recipe is NOT_GIVEN:
        object.__setattr__(config, "recipe", recipe.metadata["default"])
    object.__setattr__(config, "recipe", settled(recipe, config.recipe))
    for field in others:
        value = getattr(config, field.name)
        if value is NOT_GIVEN:
            value = default(field, config.recipe)
        object.__setattr__(config, field.name, settled(field, value))
