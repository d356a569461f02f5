"""The figures that are wanted from a GPU, most wanted first."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from cifar_jax import Config

# Settings that say where a run is and when it logs, which results do not depend on.
_UNIMPORTANT = ("train_dir", "seed", "eval_frequency", "log_frequency")
_TINY = {"max_steps": 2, "batch_size": 8}


@dataclasses.dataclass(frozen=True)
class Precision:
    """The precision @ 1 on the test images at the end of a run.

    Attributes:
        name: what the table calls it.
        settings: those of the run, as for `Config`.
        minutes: a run takes, startup included; an estimate for an H100.
        seeds: how many runs are wanted, with seeds starting at 0.
        reported: what others report; docs/recipes.md has the sources.
        dataset: the name of the data set.
    """

    name: str
    settings: Mapping[str, Any]
    minutes: float
    seeds: int = 1
    reported: str = "-"
    dataset: str = "cifar10"

    @property
    def command(self) -> str:
        """The train command's flags."""
        given = {**self.settings, "dataset": self.dataset}
        words = (
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in given.items()
            if value != "cifar10"
        )
        return shlex.join(["train", *words])

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that results depend on: they count only while it is the same."""
        config, usual = self.config(seed=0), Config()
        fields = {f.name for f in dataclasses.fields(Config)} - {*_UNIMPORTANT}
        found = {name: getattr(config, name) for name in sorted(fields)}
        changed = {n: v for n, v in found.items() if v != getattr(usual, n)}
        # As it is read again: tuples become lists.
        return json.loads(json.dumps({"dataset": self.dataset, **changed}))

    def config(self, seed: int) -> Config:
        """Returns the settings of a run that leaves no files."""
        fixed = {"train_dir": None, "seed": seed, "eval_frequency": 0}
        return Config(**{"log_frequency": 100, **self.settings, **fixed})

    def tiny(self) -> "Precision":
        """Returns what a dry run makes of it."""
        settings = {**self.settings, **_TINY}
        return dataclasses.replace(
            self, settings=settings, minutes=0, seeds=1, dataset="digits"
        )


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What another experiment measures in one go.

    Attributes:
        name: what the table calls it.
        command: the experiment and its flags.
        minutes: it takes; an estimate for an H100.
        tiny_command: what a dry run runs instead.
    """

    name: str
    command: str
    minutes: float
    tiny_command: str
    seeds: int = 1
    reported: str = "-"

    @property
    def definition(self) -> dict[str, Any]:
        """As that of `Precision`."""
        return {"command": self.command}

    def tiny(self) -> "Measurement":
        """Returns what a dry run makes of it."""
        command = f"{self.tiny_command} --dataset=digits"
        return dataclasses.replace(self, command=command, minutes=0)


Figure = Precision | Measurement


def _bfloat16(recipe: str) -> dict[str, Any]:
    return {"recipe": recipe, "use_fp16": True}


FIGURES: tuple[Figure, ...] = (
    Precision("ResNet-18", _bfloat16("resnet18"), 6, seeds=5, reported="0.930"),
    Precision(
        "cuda-convnet, 11%", {"recipe": "cuda_convnet_11pct"}, 7, reported="0.89"
    ),
    Precision("Airbench, 96%", _bfloat16("airbench96"), 1, seeds=10, reported="0.960"),
    Measurement(
        "Airbench as one program",
        "accuracy.sprint --whole_runs --seeds=100 "
        "--runs='--recipe=airbench94 --use_fp16'",
        minutes=4,
        tiny_command="accuracy.sprint --whole_runs --seeds=1 "
        "--runs='--recipe=airbench94 --max_steps=2 --batch_size=8'",
    ),
    Precision("the tutorial, to the end", {"max_steps": 100_000}, 3, reported="0.86"),
    Precision(
        "ResNet-18, Cutout", _bfloat16("resnet18_cutout"), 6, seeds=5, reported="0.960"
    ),
    Precision("VGG-16", _bfloat16("vgg16_bn"), 6, seeds=3, reported="0.926"),
    Measurement(
        "many seeds",
        "devices.many_seeds",
        minutes=2,
        tiny_command="devices.many_seeds --rounds=1 --steps=1",
    ),
    Precision("PreActResNet-18", _bfloat16("preact_resnet18"), 6, reported="0.951"),
    Precision("ResNet-20", _bfloat16("resnet20"), 5, reported="0.913"),
    Precision("ResNet-56", _bfloat16("resnet56"), 8, reported="0.930"),
    Precision("ConvMixer", _bfloat16("conv_mixer"), 3, reported="0.926"),
    Precision(
        "ResNet-18, CIFAR-100",
        _bfloat16("resnet18_cutout") | {"distortions": "crop(padding=4), flip"},
        6,
        reported="0.775",
        dataset="cifar100",
    ),
    Precision("Airbench, CIFAR-100", _bfloat16("airbench96"), 1, dataset="cifar100"),
    Precision("ViT-S", _bfloat16("vit_s"), 15),
    Precision("WRN-28-10", _bfloat16("wrn28_10"), 30, reported="0.960"),
    Precision(
        "WRN-28-10, CIFAR-100",
        _bfloat16("wrn28_10"),
        30,
        reported="0.808",
        dataset="cifar100",
    ),
    Precision("DenseNet-BC", _bfloat16("densenet100"), 60, reported="0.955"),
)
