"""Checks and decisions before a training run begins."""

import dataclasses
from typing import Any

from jax.sharding import Mesh

from cifar_jax import models
from cifar_jax.checks import check_integer, check_type
from cifar_jax.config.config import Config
from cifar_jax.config.conflicts import describe_mistuning
from cifar_jax.config.orders import ORDERS, Hardest, Shuffled
from cifar_jax.console import Log
from cifar_jax.data import CHOICES, OPTIONS, Dataset
from cifar_jax.data.dataset import check_dataset
from cifar_jax.data.own_order import Order, OrderFunction, OwnOrder
from cifar_jax.devices import settings, sharding
from cifar_jax.errors import UserError
from cifar_jax.models import Network, variables
from cifar_jax.models.variables import Variables
from cifar_jax.optimization.losses import with_counts
from cifar_jax.registry import resolve
from cifar_jax.runs.run_dir import Given
from cifar_jax.training import hardest
from cifar_jax.training.loop import Hook
from cifar_jax.training.program import Program

# The fraction of a device's memory that training images may fill.
_SHARE_OF_MEMORY = 0.25


def check_config(config: Config, dataset: Dataset, log: Log) -> Config:
    """Returns the config for this data set; raises UserError if they do not match."""
    settings.check()
    check_type(config, "config", Config)
    check_dataset(dataset)
    config.preprocessing.check(dataset.image_shape)
    count = len(dataset.train)
    config = config.for_images(count)
    if config.num_epochs is not None:
        log(
            f"--num_epochs={config.num_epochs:g}: {count} images in batches of "
            f"{config.batch_size}, {config.max_steps} steps"
        )
    if config.batch_size > count:
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set: "
            f"{dataset.name} has {count} images to train on; pass a smaller one, or "
            "--recipe=finetune, which is designed for few images"
        )
    if config.validation_size not in (0, dataset.validation_size):
        raise UserError(
            f"--validation_size={config.validation_size}, but {dataset.name} holds out "
            f"{dataset.validation_size} training images; load the data with that "
            "validation_size, or leave the setting out"
        )
    _check_data_settings(config, dataset)
    if dataset.validation is None:
        for name in ("keep_best", "early_stopping"):
            if getattr(config, name):
                raise UserError(
                    f"--{name} relies on validation images, and none are held out; "
                    "pass --validation_size=5000, for example; relying on the test "
                    "images would overestimate the precision"
                )
    if (note := describe_mistuning(config)) is not None:
        log(note)
    size = min(dataset.image_shape[:2])
    if config.image_size > size:
        log(f"images of {size}x{size} are enlarged to --image_size={config.image_size}")
    # Recorded even if only the data set knows, for eval to load the same one.
    chosen = {k: v for k, v in dataset.options.items() if k in CHOICES}
    return dataclasses.replace(
        config,
        dataset=dataset.name,
        validation_size=dataset.validation_size,
        **chosen,
    )


def _check_data_settings(config: Config, dataset: Dataset) -> None:
    """Raises UserError unless the data set is the one requested by the config."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    known = {"dataset": dataset.name, **dataset.options}
    for name in ("dataset", *sorted(OPTIONS & fields.keys())):
        asked, default = getattr(config, name), fields[name].metadata["default"]
        if asked not in (default, known.get(name, default)):
            raise UserError(
                f"--{name}={asked}, but the data set was loaded with "
                f"{known.get(name, default)}; load it with that setting, or leave the "
                "setting out"
            )


def balance_losses(program: Program, dataset: Dataset) -> Program:
    """Returns the program with the training set's class counts in `balanced` losses."""
    loss = with_counts(program.loss, dataset.class_counts)
    return dataclasses.replace(program, loss=loss)


def check_order(
    order: OrderFunction | None, config: Config, dataset: Dataset
) -> OwnOrder | None:
    """Returns the order of the training images that was passed to fit(), if any.

    Raises:
        UserError: it or --order cannot be used.
    """
    chosen = resolve(config.order, ORDERS, "order")
    if isinstance(chosen, Hardest):
        hardest.check(config, chosen, dataset)
    if order is None:
        return None
    if not isinstance(chosen, Shuffled):
        raise UserError(f"order= replaces --order={config.order}; leave one out")
    if config.drop_remainder:
        raise UserError(
            "--drop_remainder applies to fit()'s own order; leave it or order= out"
        )
    return OwnOrder(order, len(dataset.train), config.batch_size)


def create_order(
    own: OwnOrder | None, config: Config, dataset: Dataset, log: Log
) -> Order | None:
    """Returns the order of the training images; None: a `BatchOrder`."""
    chosen = resolve(config.order, ORDERS, "order")
    if isinstance(chosen, Hardest):
        return hardest.choose(config, chosen, dataset, log)
    return own


def log_layer_rates(config: Config, program: Program, log: Log) -> None:
    """Logs the factor of the learning rate of each part, if --layer_decay sets them."""
    if program.layer_rates:
        listed = ", ".join(f"{name} {x:.4g}" for name, x in program.layer_rates.items())
        log(f"--layer_decay={config.layer_decay:g} multiplies the rates by: {listed}")


def check_calls(hooks: Any, log: Any) -> None:
    """Raises UserError unless the hooks are hooks and the log can be called."""
    if not callable(log):
        raise UserError(
            f"log={log!r} must be a function of a line, such as print; for no log, "
            "pass lambda line: None"
        )
    if not isinstance(hooks, list | tuple):
        raise UserError(f"hooks must be a list of cifar_jax.Hook, not {hooks!r}")
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise UserError(f"hooks contains {hook!r}, which is not a cifar_jax.Hook()")
        if hook.every is not None:
            check_integer(hook.every, f"{type(hook).__name__}.every", at_least=1)


def must_stream(config: Config, dataset: Dataset, mesh: Mesh, log: Log) -> bool:
    """Returns whether to send images batch by batch rather than all at the start."""
    size, room = len(dataset.train) * dataset.train.row_bytes, sharding.memory(mesh)
    if config.stream is None and room is not None and size > _SHARE_OF_MEMORY * room:
        log(
            "reading the training images batch by batch (--stream), as "
            f"{size / 1e9:.1f} GB is too much for {room / 1e9:.1f} GB of memory"
        )
        return True
    return bool(config.stream)


def describe_given(
    program: Program,
    model: Network | None,
    initial: Variables | None,
    order: OwnOrder | None = None,
) -> Given:
    """Returns what a run is given besides config and data, as it is recorded."""
    return Given(
        network=None if model is None else models.describe(program.model),
        order=None if order is None else order.description,
        initial=None if initial is None else variables.describe(initial),
    )
