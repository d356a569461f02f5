"""What does each part of the tutorial's recipe bring?

    python -m experiments.ablation --data_dir=DIR

trains the tutorial with averaged parameters, weight decay, LRN and a falling learning
rate, and without each in turn; prints a table of precision on the test images and on
those trained on, and writes ablation.json, .csv and .png to --results_dir. The tutorial
first drops its learning rate after 136,718 steps; here it does after 60% of the steps,
so that the drop is part of the run. Stopped and started again it goes on where it was.
About 2 minutes for 1,000 steps on 2 cores, 5 runs a seed.
"""

from jaxtyping import Array, Float

from cifar_jax import Config, models
from cifar_jax.models.tutorial import TutorialCNN
from experiments import common, studies
from experiments.studies import Variant


class WithoutLRN(TutorialCNN):
    """The tutorial's network but for the local response normalisation."""

    def norm(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
        """Nothing."""
        return x


def variants(config: Config) -> list[Variant]:
    """The recipe for runs like this one, and the recipe without each of its parts."""
    images = 0.6 * config.max_steps * config.batch_size
    whole = {"num_epochs_per_decay": images / 50_000}
    return [
        Variant("all of it", whole),
        Variant("no averages", whole | {"ema_decay": 0.0}),
        Variant("no weight decay", whole | {"weight_decay": 0.0}),
        Variant("no LRN", whole | {"model": "tutorial_without_lrn"}),
        Variant("no drop of the learning rate"),
    ]


def main(argv: list[str]) -> None:
    """Runs, reports, draws and keeps."""
    del argv
    models.MODELS["tutorial_without_lrn"] = WithoutLRN
    record = studies.run(variants(Config(**studies.settings())))
    studies.keep("ablation", record, "The tutorial's recipe, each part left out")


if __name__ == "__main__":
    common.run(main, studies.define_flags)
