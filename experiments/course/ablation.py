"""What does each part of the tutorial's recipe contribute?

    python -m experiments.course.ablation --data_dir=DIR

Trains the tutorial's network with averaged parameters, weight decay, LRN and a decaying
learning rate, and again without each of them. Prints a table of precision on the test
images and on the training images, and writes ablation.json, .csv and .png to
--results_dir. The tutorial first lowers its learning rate after 136,718 steps; here,
the rate drops after 60% of the steps, so that the drop falls within the run. An
interrupted experiment resumes where it left off. Takes about 2 minutes per 1,000 steps
on 2 cores, with 5 runs per seed.
"""

from typing import Any

from jaxtyping import Array, Float
from matplotlib.figure import Figure

from cifar_jax import Config, models
from cifar_jax.models.tutorial import TutorialCNN
from experiments.harness import common, studies
from experiments.harness.studies import Variant

# When the learning rate drops, as a fraction of the steps.
DROP = 0.6


class WithoutLRN(TutorialCNN):
    """The tutorial's network without local response normalization."""

    def norm(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
        """Returns the input unchanged."""
        return x


def variants(config: Config) -> list[Variant]:
    """Returns the full recipe, scaled to this run, and a variant without each part."""
    images = DROP * config.max_steps * config.batch_size
    whole = {"num_epochs_per_decay": images / 50_000}
    return [
        Variant("all of it", whole),
        Variant("no averages", whole | {"average": "none"}),
        Variant("no weight decay", whole | {"weight_decay": 0.0}),
        Variant("no LRN", whole | {"model": "tutorial_without_lrn"}),
        Variant("no drop of the learning rate"),
    ]


def draw(record: dict[str, Any]) -> Figure:
    """Draws the study; the title states when the learning rate drops."""
    steps = record["settings"]["max_steps"]
    return studies.draw(
        record,
        "What does each part of the tutorial's recipe contribute?\n"
        f"Here, the learning rate drops after {DROP * steps:,.0f} steps, not 136,718",
    )


def main(argv: list[str]) -> None:
    """Runs the study and saves its results."""
    del argv
    models.MODELS["tutorial_without_lrn"] = WithoutLRN
    record = studies.run(variants(Config(**studies.settings())))
    studies.keep("ablation", record, draw)


if __name__ == "__main__":
    common.run(main, studies.define_flags, draw)
