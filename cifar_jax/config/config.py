"""What defines a run: one frozen dataclass, from which the train flags are made."""

import collections
import dataclasses
import math
from typing import Any, get_args

from cifar_jax import data, models
from cifar_jax.config.options import NOT_GIVEN, convert, option
from cifar_jax.config.recipes import RECIPES
from cifar_jax.data import distortions
from cifar_jax.data.cifar.cifar100 import LABELS
from cifar_jax.data.distortions import DISTORTIONS, MIXTURES
from cifar_jax.data.normalization import NORMALIZATIONS
from cifar_jax.data.preprocessing import Preprocessing
from cifar_jax.data.views import VIEWS
from cifar_jax.devices.strategies import STRATEGIES
from cifar_jax.errors import UserError
from cifar_jax.metrics import EVAL_METRICS, METRICS
from cifar_jax.models import MODELS
from cifar_jax.ops import Implementation
from cifar_jax.optimization import LOSSES, OPTIMIZERS, optimizers
from cifar_jax.optimization.averages import AVERAGES
from cifar_jax.optimization.param_groups import PARAM_GROUPS
from cifar_jax.optimization.schedules import SCHEDULES, ScheduleSettings
from cifar_jax.registry import resolve
from cifar_jax.writers import WRITERS

# The limit for numbers of steps and images, which are int32 on the device.
_LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Config:
    """Every setting of a training run.

    A setting that is not given has the recipe's value, or else the tutorial's.

    Raises:
        UserError: a value is outside its range.
    """

    recipe: str = option(
        "tutorial",
        "Named settings; other flags override single ones.",
        choices=RECIPES.keys(),
        fixed=True,
    )
    max_steps: int = option(
        1_000_000,
        "Train until this step. The schedules piecewise, cosine, linear and "
        "triangle are stretched to end there.",
        at_least=1,
        at_most=_LARGEST,
    )
    num_epochs: float | None = option(
        None,
        "Stop after this many passes over the training images, if that is before "
        "--max_steps, and then stretch the schedules to end there. Batches are made "
        "smaller, to a power of 2, where there are fewer images than --batch_size.",
        above=0,
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
        "Directory of the run: checkpoints, config, log, summaries. A run that is "
        "there already is resumed.",
        path=True,
    )
    dataset: str = option(
        "auto",
        "The data set: cifar10; cifar100; folder, your own pictures in --data_dir, in "
        "sub-folders of classes; npz, your own arrays in the file --data_dir, as "
        "x_train, y_train, x_test and y_test; digits, a small stand-in; or "
        "auto: cifar10, and digits only if that is neither on disk nor reachable.",
        fixed=True,
    )
    data_dir: str | None = option(
        None,
        "Directory of the prepared data set, of one of the official archives of "
        "CIFAR-10 or CIFAR-100, or of your own pictures. Default: $TFDS_DATA_DIR, or "
        "~/tensorflow_datasets.",
        path=True,
    )
    labels: str = option(
        "fine",
        "Labels of CIFAR-100: fine, 100 classes; coarse, 20 groups of them.",
        choices=LABELS.keys(),
        fixed=True,
    )
    picture_size: int | None = option(
        None,
        "Height and width at which a folder's pictures are kept; --image_size of them "
        "is cropped. Default: 32, or for larger --image_size 8/7 of it, as from 256 "
        "to 224.",
        at_least=1,
        at_most=4096,
        fixed=True,
    )
    split_seed: int = option(
        0,
        "Seed by which a folder's test pictures, if they are not apart, and validation "
        "pictures are drawn.",
        at_least=0,
        at_most=2**32 - 1,
        fixed=True,
    )
    skip_damaged: bool = option(
        False, "Leave out a folder's pictures that cannot be read, not refuse them."
    )
    validation_size: int = option(
        0,
        "Hold out this many training images, for eval --eval_data=validation: the last "
        "ones, or of a folder, some of each class.",
        at_least=0,
        at_most=_LARGEST,
        fixed=True,
    )
    drop_remainder: bool = option(
        False,
        "Leave out of each epoch the images at its end that do not fill a batch. "
        "Otherwise the batch is filled from the next epoch.",
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
        "Start from these weights: pretrained, the network that comes with this "
        "package; the directory of a run or of an export, its .safetensors file; or a "
        ".weights.h5, .h5 or .keras file of Keras. The head is new if the classes "
        "differ.",
        path=True,
        fixed=True,
    )
    image_size: int = option(
        24,
        "Height and width of the network's inputs; smaller images are enlarged to it.",
        at_least=1,
        at_most=1024,
        fixed=True,
    )
    distortions: str = option(
        "crop, flip, brightness(63), contrast(0.8)",
        "Random distortions of training images, in order.",
        registry=collections.ChainMap(MIXTURES, DISTORTIONS),
        check=distortions.parse,
        fixed=True,
    )
    normalization: str = option(
        "image",
        "How inputs are scaled, after the distortions: image, each to mean 0 and "
        "standard deviation 1; channel, the channels of the training set likewise; "
        "mean_image, the training set's mean image is subtracted; caffe, tf or torch, "
        "as Keras does for networks trained on ImageNet.",
        registry=NORMALIZATIONS,
        fixed=True,
    )
    views: str = option(
        "center",
        "Evaluate the mean over these crops of each image.",
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
        "How operations are computed: plain, by XLA's own; fast, by replacements that "
        "are faster on a CPU; auto, what is fastest on each kind of device.",
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
        "Send the images of each batch to the devices when they are needed, instead of "
        "all images at the start. Default: if they would fill more than a quarter of "
        "the memory.",
    )
    data_parallel: str = option(
        "jit",
        "How a step is spread over devices: jit, divided by XLA; pmap, one program for "
        "each share of the batch.",
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
        "sgd", "The optimizer.", registry=OPTIMIZERS, check=optimizers.check, fixed=True
    )
    learning_rate: float = option(0.1, "Highest learning rate.", above=0, fixed=True)
    schedule: str = option(
        "staircase",
        "How the learning rate falls: constant, not at all; staircase, times "
        "--learning_rate_decay_factor every --num_epochs_per_decay; piecewise, times "
        "that factor at each of --learning_rate_drops; cosine or linear, to 0 at "
        "--max_steps; triangle, up and down again.",
        registry=SCHEDULES,
        fixed=True,
    )
    learning_rate_decay_factor: float = option(
        0.1, "What each drop multiplies the learning rate by.", above=0, fixed=True
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
        "Weight decay of the kernels: of all of them, or of the layers that the "
        "network names, by its factors. The tutorial's names local3 and local4.",
        at_least=0,
        fixed=True,
    )
    param_groups: str = option(
        "",
        "Parameters with settings of their own: a regular expression for their paths, "
        "factors of learning rate and weight decay, a schedule, or frozen.",
        registry=PARAM_GROUPS,
        listed=True,
        fixed=True,
    )
    average: str = option(
        "ema(0.9999, ramp=True)",
        "The average of the parameters and of BatchNorm's statistics by which the "
        "network is evaluated: ema, exponential, with a decay that ramps up to its "
        "limit or not; swa, equal, after that fraction of the run; none.",
        registry=AVERAGES,
        fixed=True,
    )
    log_frequency: int = option(
        10, "Print the loss every this many steps.", at_least=1, at_most=_LARGEST
    )
    metrics: str = option(
        "",
        "What else to measure in the logged steps, on the batch; it is in the log, the "
        "summaries and TensorBoard.",
        registry=METRICS,
        listed=True,
    )
    summary_frequency: int = option(
        100, "Write summaries every this many steps.", at_least=1, at_most=_LARGEST
    )
    eval_frequency: int = option(
        0,
        "Evaluate every this many steps and at the end: on the validation images, or "
        "the test images if none are held out. 0: never.",
        at_least=0,
        at_most=_LARGEST,
    )
    eval_metrics: str = option(
        "",
        "What else to measure in these evaluations.",
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
        "Stop after this many evaluations in a row without progress on the validation "
        "images. 0: never.",
        at_least=0,
        at_most=_LARGEST,
    )
    writers: str = option(
        "jsonl, tensorboard",
        "Where summaries and evaluations go.",
        registry=WRITERS,
        listed=True,
    )
    save_interval_secs: float = option(
        600.0, "Save a checkpoint every this many seconds.", at_least=0
    )
    log_device_placement: bool = option(
        False, "Print where parameters, data and compiled code are placed."
    )
    profile: bool = option(
        False,
        "Write a trace of some steps to TRAIN_DIR/profile, for XProf and Perfetto.",
    )

    # Not a setting: the recipe that settled the values. `dataclasses.replace` passes it
    # on.
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
                raise UserError(f"--{name} needs evaluations; give --eval_frequency")
            # A resumed training reads earlier evaluations there.
            if getattr(self, name) and "jsonl" not in self.writers:
                raise UserError(f"--{name} needs jsonl among --writers={self.writers}")
        if self.learning_rate_drops and self.schedule != "piecewise":
            raise UserError(
                f"--schedule={self.schedule} has no --learning_rate_drops; leave them "
                "empty (--learning_rate_drops=), or give --schedule=piecewise"
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
                f"{self.steps_per_update}, the steps of each update of "
                f"--optimizer={self.optimizer}"
            )

    @property
    def data_options(self) -> dict[str, Any]:
        """The options of the data set, for `cifar_jax.data.load`, as far as given."""
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

        Without --num_epochs, that is the config itself; so it is if this was done
        before for as many images.

        Args:
            count: number of training images.
        """
        if self.num_epochs is None:
            return self
        batch_size = self.batch_size
        if batch_size > count:
            # A power of 2, which most numbers of devices divide.
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
        """What is done to images before the network sees them."""
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
        """The settings that schedules read, whose steps are updates."""
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
        """The length of the run in updates of the optimizer."""
        return self.max_steps // self.steps_per_update

    @property
    def decay_steps(self) -> int:
        """Updates from one drop of the staircase to the next.

        As in the tutorial, an epoch is 50,000 images whatever the data set: 136,718
        updates at a batch size of 128.
        """
        images = self.batch_size * self.steps_per_update
        steps = 50_000 / images * self.num_epochs_per_decay
        return max(1, int(min(steps, _LARGEST)))


def default(field: dataclasses.Field[Any], recipe: str) -> Any:
    """Returns the value of a setting under a recipe if it is not given."""
    return RECIPES[recipe].settings.get(field.name, field.metadata["default"])


def _settle(config: Config) -> None:
    """Checks the values, and fills in the recipe's for those that were not given."""
    recipe, *others = dataclasses.fields(Config)
    if config.recipe is NOT_GIVEN:
        object.__setattr__(config, "recipe", recipe.metadata["default"])
    object.__setattr__(config, "recipe", convert(recipe, config.recipe))
    for field in others:
        value = getattr(config, field.name)
        if value is NOT_GIVEN:
            value = default(field, config.recipe)
        object.__setattr__(config, field.name, convert(field, value))
