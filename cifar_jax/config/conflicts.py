"""Whether two configs can be the same run."""

import dataclasses

from cifar_jax.config.config import Config, default


def conflicts(saved: Config, asked: Config) -> list[str]:
    """Where two configs cannot be the same run: `name: saved there, asked now`.

    Another recipe stands for all that the two recipes set differently.
    """
    fields = [
        field
        for field in dataclasses.fields(Config)
        # Some schedules are stretched over the whole run.
        if field.metadata["fixed"]
        or (
            field.name == "max_steps"
            and (saved.schedule != "staircase" or saved.warmup)
        )
    ]
    different = [f for f in fields if getattr(saved, f.name) != getattr(asked, f.name)]
    if saved.recipe != asked.recipe:
        different = [f for f in different if not _by_recipe(f, saved, asked)]
    return [
        f"{field.name}: {getattr(saved, field.name)} there, "
        f"{getattr(asked, field.name)} now"
        for field in different
    ]


def _by_recipe(field: dataclasses.Field, *configs: Config) -> bool:
    """Whether each config has the value that its recipe sets."""
    return field.name != "recipe" and all(
        getattr(config, field.name) == default(field, config.recipe)
        for config in configs
    )
