"""How configs differ, and whether two of them can belong to the same run."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from cifar_jax.config.config import Config, default
from cifar_jax.config.orders import ORDERS, Shuffled
from cifar_jax.optimization.averages import AVERAGES, Average
from cifar_jax.optimization.optimizers import OPTIMIZERS, Optimizer, innermost
from cifar_jax.optimization.param_groups import PARAM_GROUPS
from cifar_jax.registry import resolve, resolve_all

# Schedules that do not depend on the length of the run.
_OPEN_ENDED = ("constant", "staircase")


def find_differing(
    fields: Iterable[dataclasses.Field[Any]], configs: Sequence[Config]
) -> list[dataclasses.Field[Any]]:
    """Returns the fields whose values differ between the configs.

    If the recipes differ, `recipe` stands for everything that they set differently.
    """
    different = [
        field
        for field in fields
        if any(
            getattr(c, field.name) != getattr(configs[0], field.name) for c in configs
        )
    ]
    if any(config.recipe != configs[0].recipe for config in configs):
        different = [f for f in different if not _matches_recipe(f, configs)]
    return different


def find_conflicts(saved: Config, asked: Config) -> list[str]:
    """Lists why two configs cannot be one run, as `name: saved there, asked now`.

    If the recipes differ, `recipe` stands for what they set, as in `find_differing`.
    """
    fields = [
        field
        for field in dataclasses.fields(Config)
        if field.metadata["fixed"]
        or (field.name == "max_steps" and _depends_on_max_steps(saved))
    ]
    return [
        f"{field.name}: {getattr(saved, field.name)} there, "
        f"{getattr(asked, field.name)} now"
        for field in find_differing(fields, (saved, asked))
    ]


def describe_mistuning(config: Config) -> str | None:
    """Returns a note on settings tuned for an optimizer that was replaced, or None."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    usual = default(fields["optimizer"], config.recipe)
    kinds = [
        type(innermost(resolve(text, OPTIMIZERS, "optimizer")))
        for text in (usual, config.optimizer)
    ]
    kept = [
        f"--{name}={getattr(config, name)}"
        for name in ("learning_rate", "weight_decay", "param_groups")
        if getattr(config, name) == default(fields[name], config.recipe) != ""
    ]
    if kinds[0] is kinds[1] or not kept:
        return None
    return (
        f"note: --optimizer={config.optimizer} is used with {', '.join(kept)}, which "
        f"--recipe={config.recipe} chose for {usual}"
    )


def _depends_on_max_steps(config: Config) -> bool:
    """Returns whether what a step does depends on the length of the run."""
    groups = resolve_all(config.param_groups, PARAM_GROUPS, "param_groups")
    parts: list[Optimizer | Average] = [
        resolve(config.optimizer, OPTIMIZERS, "optimizer"),
        resolve(config.average, AVERAGES, "average"),
        *(g.own_optimizer for g in groups if g.own_optimizer is not None),
    ]
    return (
        config.schedule not in _OPEN_ENDED
        or config.warmup > 0
        or not isinstance(resolve(config.order, ORDERS, "order"), Shuffled)
        or any(group.schedule or group.until < 1 for group in groups)
        or not all(part.open_ended for part in parts)
    )


def _matches_recipe(field: dataclasses.Field[Any], configs: Sequence[Config]) -> bool:
    """Returns whether each config has the value that its recipe sets."""
    return field.name != "recipe" and all(
        getattr(config, field.name) == default(field, config.recipe)
        for config in configs
    )
