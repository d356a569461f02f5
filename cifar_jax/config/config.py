"""The config of a run: one frozen dataclass, from which the train flags are made."""

import dataclasses
import math
from typing import Any, Literal, get_args

from cifar_jax import data, models
from cifar_jax.config.options import NotGiven, convert, explain_fields, option
from cifar_jax.config.orders import ORDERS
from cifar_jax.config.recipes import RECIPES
from cifar_jax.data import distortions
from cifar_jax.data.changes import DATA_CHANGES
from cifar_jax.data.cifar.cifar100 import LABELS
from cifar_jax.data.normalization import NORMALIZATIONS
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.views import VIEWS
from cifar_jax.devices.strategies import STRATEGIES
from cifar_jax.errors import UserError
from cifar_jax.metrics import EVAL_METRICS, METRICS
from cifar_jax.models import MODELS
from cifar_jax.ops import Implementation
from cifar_jax.optimization import LOSSES, OPTIMIZERS, optimizers, schedules
from cifar_jax.optimization.averages import AVERAGES
from cifar_jax.optimization.param_groups import PARAM_GROUPS
from cifar_jax.optimization.schedules import SCHEDULES, ScheduleSettings
from cifar_jax.registry import resolve
from cifar_jax.writers import WRITERS

# The upper limit of step and image counts, which are int32 on the device.
_LARGEST = 2**31 - 1


@explain_fields
@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a training run.

    An omitted setting takes the recipe's value, or else the tutorial's.

    Raises:
        UserError: a value is outside its range.
    """

    recipe: str = option(
        "tutorial",
        "Named set of settings; other flags override individual ones.",
        choices=RECIPES.keys(),
        fixed=True,
    )
    max_steps: int = option(
        1_000_000,
        "Train until this step. All schedules but constant and staircase are scaled to "
        "end there.",
        at_least=1,
        at_most=_LARGEST,
    )
    num_epochs: float | None = option(
        None,
        "Stop after this many passes over the training images, if that comes before "
        "--max_steps; schedules are then scaled to end there. If there are fewer "
        "images than --batch_size, the batch size is reduced to a power of 2.",
        above=0,
    )
    batch_size: int = option(
        128,
        "Images per training step, across all devices.",
        at_least=1,
        at_most=_LARGEST,
        fixed=True,
    )
    train_dir: str | None = option(
        "cifar10_train",
        "Directory of the run: checkpoints, config, log, summaries. If it holds a run, "
        "that run is resumed.",
        path=True,
    )
    dataset: str = option(
        "auto",
        "The data set: cifar10; cifar100; folder, your own pictures in --data_dir, "
        "one subfolder per class; npz, your own arrays x_train, y_train, x_test and "
        "y_test in the file --data_dir; digits, a small stand-in; or auto: cifar10, "
        "or digits if that is neither on disk nor reachable.",
        fixed=True,
    )
    data_dir: str | None = option(
        None,
        "Directory with the prepared data set, an official CIFAR-10 or CIFAR-100 "
        "archive, or your own pictures. Default: $TFDS_DATA_DIR, or "
        "~/tensorflow_datasets.",
        path=True,
    )
    labels: str = option(
        "fine",
        "CIFAR-100 labels: fine, 100 classes; coarse, the 20 groups of classes.",
        choices=LABELS.keys(),
        fixed=True,
    )
    picture_size: int | None = option(
        None,
        "Height and width at which a folder's pictures are stored; crops of "
        "--image_size are taken from them. Default: 32, or 8/7 of an --image_size "
        "above 32, such as 256 for 224.",
        at_least=1,
        at_most=4096,
        fixed=True,
    )
    split_seed: int = option(
        0,
        "Seed for choosing a folder's validation pictures, and its test pictures if "
        "they have no folder of their own.",
        at_least=0,
        at_most=2**32 - 1,
        fixed=True,
    )
    skip_damaged: bool = option(
        False, "Skip a folder's unreadable pictures instead of stopping with an error."
    )
    validation_size: int = option(
        0,
        "Hold out this many training images for validation: the last ones, or in a "
        "folder, some from each class. eval --eval_data=validation uses them.",
        at_least=0,
        at_most=_LARGEST,
        fixed=True,
    )
    data_changes: str = option(
        "",
        "Changes of the training images or labels, made in this order when the data "
        "is loaded, after images have been held out.",
        registry=DATA_CHANGES,
        listed=True,
        fixed=True,
    )
    train_size: int | None = option(
        None,
        "Train on this many of the training images, the same share of each class: a "
        "random sample, the same for every --seed. Default: all.",
        at_least=1,
        at_most=_LARGEST,
        fixed=True,
    )
    drop_remainder: bool = option(
        False,
        "Drop the images at the end of each epoch that do not fill a batch. "
        "Otherwise the batch is filled from the next epoch.",
        fixed=True,
    )
    order: str = option(
        "shuffled",
        "The order of the training images: shuffled, all of them in every epoch; or "
        "hardest, only those that a small network finds hardest.",
        registry=ORDERS,
        fixed=True,
    )
    model: str = option(
        "tutorial",
        "The network.",
        registry=MODELS,
        reserved=models.RESERVED,
        check=models.create,
        fixed=True,
    )
    init_from: str | None = option(
        None,
        "Start from these weights: pretrained, the bundled network; the directory of "
        "a run or an export; an export's .safetensors file; a .safetensors file of "
        "PyTorch's weights; or a Keras file (.weights.h5, .h5 or .keras). The head is "
        "reinitialized if the classes differ.",
        path=True,
        fixed=True,
    )
    image_size: int = option(
        24,
        "Height and width of the network's inputs; smaller images are enlarged to "
        "this size.",
        at_least=1,
        at_most=1024,
        fixed=True,
    )
    distortions: str = option(
        "crop, flip, brightness(63), contrast(0.8)",
        "Random distortions of training images, in this order.",
        registry=distortions.CHOICES,
        check=distortions.parse,
        fixed=True,
    )
    normalization: str = option(
        "image",
        "How inputs are normalized, after the distortions: image, each to mean 0 and "
        "standard deviation 1; channel, the same for each channel over the training "
        "set; mean_image, by subtracting the training set's mean image; caffe, tf or "
        "torch, as Keras does for ImageNet networks.",
        registry=NORMALIZATIONS,
        fixed=True,
    )
    views: str = option(
        "center",
        "Views of each image that evaluation averages over.",
        registry=VIEWS,
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
        "How operations are computed: plain, with XLA's own; fast, with replacements "
        "that are faster on a CPU; auto, with the fastest for each type of device.",
        choices=get_args(Implementation),
        fixed=True,
    )
    num_devices: int | None = option(
        None,
        "Number of devices to use. Default: all.",
        at_least=1,
        at_most=_LARGEST,
    )
    stream: bool | None = option(
        None,
        "Send each batch of images to the devices when it is needed, instead of all "
        "images at the start. Default: only if the images would fill more than a "
        "quarter of the memory.",
    )
    data_parallel: str = option(
        "jit",
        "How a step is distributed over devices: jit, XLA divides the work; pmap, "
        "one program per share of the batch.",
        choices=STRATEGIES.keys(),
    )
    seed: int = option(
        0,
        "Seed for initialization, shuffling and augmentation.",
        at_least=0,
        at_most=2**32 - 1,
        fixed=True,
    )
    loss: str = option(
        "cross_entropy", "The loss function.", registry=LOSSES, fixed=True
    )
    optimizer: str = option(
        "sgd",
        "The optimizer. optax('NAME', option=value, ...) is any one of optax or "
        f"optax.contrib that fits: {', '.join(optimizers.optax_by_name.functions())}.",
        registry=OPTIMIZERS,
        check=optimizers.check,
        fixed=True,
    )
    learning_rate: float = option(0.1, "Peak learning rate.", above=0, fixed=True)
    schedule: str = option(
        "staircase",
        "How the learning rate changes: constant, not at all; staircase, multiplied "
        "by --learning_rate_decay_factor every --num_epochs_per_decay; piecewise, "
        "multiplied by that factor at each of --learning_rate_drops; cosine, linear "
        "or polynomial, down to 0 at --max_steps; triangle or onecycle, up and back "
        "down; cosine_restarts, down again and again; wsd, up, stable, down; "
        "optax('NAME', option=value, ...), any of optax's in steps: "
        f"{', '.join(schedules.optax_by_name.functions())}.",
        registry=SCHEDULES,
        fixed=True,
    )
    learning_rate_decay_factor: float = option(
        0.1,
        "Factor by which each drop multiplies the learning rate.",
        above=0,
        fixed=True,
    )
    num_epochs_per_decay: float = option(
        350.0,
        "Epochs of 50,000 images between drops of the staircase.",
        above=0,
        fixed=True,
    )
    learning_rate_drops: tuple[float, ...] = option(
        (),
        "Fractions of --max_steps at which the learning rate drops, e.g. 0.8,0.9.",
        fixed=True,
    )
    warmup: float = option(
        0.0,
        "Fraction of --max_steps during which the learning rate rises linearly.",
        at_least=0,
        at_most=1,
        fixed=True,
    )
    weight_decay: float = option(
        0.004,
        "Weight decay of the kernels: all of them, or those of the layers that the "
        "network lists, scaled by its factors. The tutorial's lists local3 and "
        "local4.",
        at_least=0,
        fixed=True,
    )
    param_groups: str = option(
        "",
        "Parameters with their own settings: a regular expression for their paths, "
        "factors for the learning rate and weight decay, a schedule, or frozen.",
        registry=PARAM_GROUPS,
        listed=True,
        fixed=True,
    )
    layer_decay: float = option(
        1.0,
        "Factor of the learning rate from each layer to the one below it, for "
        "fine-tuning, also in param groups. The log lists the factor of each part.",
        above=0,
        at_most=1,
        fixed=True,
    )
    average: str = option(
        "ema(0.9999, ramp=True)",
        "Average of the parameters and BatchNorm statistics to evaluate: ema, "
        "exponential, with a decay that may ramp up to its limit; swa, equal "
        "weights, starting at a fraction of the run; none.",
        registry=AVERAGES,
        fixed=True,
    )
    log_frequency: int = option(
        10, "Print the loss every N steps.", at_least=1, at_most=_LARGEST
    )
    metrics: str = option(
        "",
        "Additional metrics of the batch in logged steps, shown in the log, the "
        "summaries and TensorBoard.",
        registry=METRICS,
        listed=True,
    )
    summary_frequency: int = option(
        100, "Write summaries every N steps.", at_least=1, at_most=_LARGEST
    )
    eval_frequency: int = option(
        0,
        "Evaluate every N steps and at the end, on the validation images, or on the "
        "test images if none are held out. 0: never.",
        at_least=0,
        at_most=_LARGEST,
    )
    eval_metrics: str = option(
        "",
        "Additional metrics of these evaluations.",
        registry=EVAL_METRICS,
        listed=True,
    )
    keep_best: bool = option(
        False,
        "Keep the checkpoint with the best precision on the validation images in "
        "TRAIN_DIR/best, for eval --best and predict --best.",
    )
    early_stopping: int = option(
        0,
        "Stop after N evaluations in a row without improvement on the validation "
        "images. 0: never.",
        at_least=0,
        at_most=_LARGEST,
    )
    writers: str = option(
        "jsonl, tensorboard",
        "Where summaries and evaluation results are written.",
        registry=WRITERS,
        listed=True,
    )
    save_interval_secs: float = option(
        600.0, "Seconds between checkpoints.", at_least=0
    )
    save_frequency: int = option(
        0,
        "Save a checkpoint every N steps as well. 0: only by --save_interval_secs.",
        at_least=0,
        at_most=_LARGEST,
    )
    keep: int | Literal["all"] = option(
        5,
        "How many of the newest checkpoints to keep, or all.",
        at_least=1,
        at_most=_LARGEST,
    )
    log_device_placement: bool = option(
        False, "Print where parameters, data and compiled code are placed."
    )
    profile: bool = option(
        False,
        "Write a trace of a few steps to TRAIN_DIR/profile, for XProf and Perfetto.",
    )

    # Not a setting: the recipe that determined the values. `dataclasses.replace` passes
    # it on.
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
        if self.keep_best and self.train_dir is None:
            raise UserError("--keep_best needs a --train_dir to keep the checkpoint in")
        for name in ("keep_best", "early_stopping"):
            if getattr(self, name) and not self.eval_frequency:
                raise UserError(f"--{name} needs evaluations; pass --eval_frequency")
            # A resumed run reads earlier evaluations there.
            if getattr(self, name) and "jsonl" not in self.writers:
                raise UserError(f"--{name} needs jsonl among --writers={self.writers}")
        if self.learning_rate_drops and self.schedule != "piecewise":
            raise UserError(
                f"--schedule={self.schedule} has no --learning_rate_drops; leave them "
                "empty (--learning_rate_drops=), or pass --schedule=piecewise"
            )
        smallest = models.create(self.model).smallest_image
        if self.image_size < smallest:
            raise UserError(
                f"--image_size={self.image_size} must be at least {smallest}, which "
                f"--model={self.model} needs"
            )
        if self.max_steps % self.steps_per_update:
            raise UserError(
                f"--max_steps={self.max_steps} must be a multiple of "
                f"{self.steps_per_update}, the number of steps per update of "
                f"--optimizer={self.optimizer}"
            )

    @property
    def data_options(self) -> dict[str, Any]:
        """The data set's options for `cifar_jax.data.load`, without default values."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name in data.OPTIONS
            and getattr(self, field.name) != field.metadata["default"]
        }
        if "picture_size" not in data.list_options(self.dataset):
            return given
        size = 32 if self.image_size <= 32 else self.image_size * 8 // 7
        return {"picture_size": size} | given

    def for_images(self, count: int) -> "Config":
        """Returns the config with the batch size and steps that --num_epochs implies.

        The config stays as it is without --num_epochs, or if this was already done for
        the same number of images.

        Args:
            count: number of training images.
        """
        if self.num_epochs is None:
            return self
        batch_size = self.batch_size
        if batch_size > count:
            # A power of 2, which most device counts divide.
            batch_size = 1 << (count.bit_length() - 1)
        every = self.steps_per_update
        updates = math.ceil(self.num_epochs * count / (batch_size * every))
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            max_steps=min(self.max_steps, updates * every),
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared for the network."""
        single, mixtures = distortions.parse(self.distortions)
        return Preprocessing(
            size=self.image_size,
            distortions=single,
            mixtures=mixtures,
            normalization=resolve(self.normalization, NORMALIZATIONS, "normalization"),
            views=resolve(self.views, VIEWS, "views"),
        )

    @property
    def schedule_settings(self) -> ScheduleSettings:
        """The settings that schedules read; their steps are optimizer updates."""
        return ScheduleSettings(
            learning_rate=self.learning_rate,
            max_steps=self.max_updates,
            decay_factor=self.learning_rate_decay_factor,
            decay_steps=self.decay_steps,
            drops=self.learning_rate_drops,
            warmup=self.warmup,
        )

    @property
    def steps_per_update(self) -> int:
        """Steps for each update of the optimizer: 1 unless it accumulates gradients."""
        return resolve(self.optimizer, OPTIMIZERS, "optimizer").every

    @property
    def max_updates(self) -> int:
        """The length of the run in optimizer updates."""
        return self.max_steps // self.steps_per_update

    @property
    def decay_steps(self) -> int:
        """Updates between drops of the staircase.

        As in the tutorial, an epoch is 50,000 images regardless of the data set; the
        default is 136,718 updates at a batch size of 128.
        """
        images = self.batch_size * self.steps_per_update
        steps = 50_000 / images * self.num_epochs_per_decay
        return max(1, int(min(steps, _LARGEST)))


def default(field: dataclasses.Field[Any], recipe: str) -> Any:
    """Returns the default value of a setting under a recipe."""
    return RECIPES[recipe].settings.get(field.name, field.metadata["default"])


def _settle(config: Config) -> None:
    """Checks the values and fills in the recipe's for those that were omitted."""
    recipe, *others = dataclasses.fields(Config)
    if isinstance(config.recipe, NotGiven):
        object.__setattr__(config, "recipe", recipe.metadata["default"])
    object.__setattr__(config, "recipe", convert(recipe, config.recipe))
    for field in others:
        value = getattr(config, field.name)
        if isinstance(value, NotGiven):
            value = default(field, config.recipe)
        object.__setattr__(config, field.name, convert(field, value))
