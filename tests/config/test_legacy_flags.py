"""Tests that flags of earlier versions keep their meaning."""

import pytest
from absl import flags

from cifar_jax import Config, UserError
from cifar_jax.config import flags as config_flags


@pytest.fixture
def read(capsys):
    """Returns a function from command-line words to the Config and the warnings."""
    before = set(flags.FLAGS)

    def read(*words: str) -> tuple[Config, str]:
        flags.FLAGS(["train", *words])
        return config_flags.read(), capsys.readouterr().err

    config_flags.define()
    yield read
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize(
    ("words", "setting", "expected"),
    [
        (["--momentum=0.9"], "optimizer", "sgd(momentum=0.9, nesterov=False)"),
        (
            ["--recipe=resnet18", "--momentum=0.5"],
            "optimizer",
            "sgd(momentum=0.5, nesterov=True)",
        ),
        (["--label_smoothing=0.1"], "loss", "cross_entropy(label_smoothing=0.1)"),
        (
            ["--bias_learning_rate_factor=2"],
            "param_groups",
            "group('.*/bias', learning_rate=2.0)",
        ),
        (
            ["--recipe=cuda_convnet_11pct", "--bias_learning_rate_factor=1"],
            "param_groups",
            "",
        ),
        (["--norandom_crop", "--brightness=0"], "distortions", None),
        (["--padding=4"], "distortions", None),
        (["--recipe=resnet18", "--norandom_flip"], "distortions", "crop(padding=4)"),
        (["--views=10"], "views", "ten_crops"),
        (["--views=2"], "views", "mirror"),
        (["--views=1"], "views", "center"),
        (["--schedule=drops"], "schedule", "piecewise"),
    ],
)
def test_old_flags_are_translated(read, words, setting, expected):
    config, warning = read(*words)
    if expected is None:
        expected = {
            "--norandom_crop": "center_crop, flip, contrast(0.8)",
            "--padding=4": "crop(padding=4), flip, brightness(63.0), contrast(0.8)",
        }[words[0]]
    assert getattr(config, setting) == expected
    if setting not in ("views", "schedule"):
        assert f'give --{setting}="{expected}"' in warning


def test_current_flags_give_no_warning(read):
    config, warning = read("--optimizer=adamw", "--distortions=crop, cutout(8)")
    assert config == Config(optimizer="adamw", distortions="crop, cutout(8)")
    assert warning == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--padding=4", "--norandom_crop"], "--padding=4 needs --random_crop"),
        (["--momentum=0.9", "--optimizer=adamw"], "--momentum is an option of sgd"),
        (["--nesterov"], "nesterov needs a momentum"),
        (
            ["--padding=4", "--distortions=crop, cutout"],
            "--padding cannot change --distortions=crop, cutout",
        ),
        (["--contrast=2"], "delta=2.0 must be at most 1"),
        (["--brightness=nan"], "nan is unknown"),
        (["--momentum=inf"], "inf is unknown"),
        (["--label_smoothing=1.5"], "label_smoothing=1.5 must be at most 1"),
    ],
)
def test_contradictory_or_invalid_old_flags_are_refused(read, words, message):
    with pytest.raises(UserError, match=message):
        read(*words)
