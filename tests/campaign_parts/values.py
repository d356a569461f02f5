"""Odd values of flags."""

import pathlib
import random
import re
from unittest import mock

import jax
import numpy as np
from helpers import call_in_process

from campaign_parts.attempts import Table, attempt
from cifar_jax import build_program, init_state
from cifar_jax.config import flags as config_flags

ODD = [
    *("", " ", "-", "--", "0", "1", "-1", "00", "1e3", "1e309", "-1e309", "nan", "inf"),
    *("0.5", "0.5,0.5", "0.1,0.9", ",", "0x10", "2147483647", "2147483648"),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 400,
        "true",
        "False",
        "None",
    ),
    *("\n", "\t", "\0", "é", "\udcff", "~", "~nobody-of-this-name", "/", "/dev/null"),
    *("/dev/full", "/proc/self", "/etc/passwd", ".", "..", "x" * 300, "a/" * 3000),
    *("tutorial", "auto", "jit", "cosine", "drops", "host:99999", "host:1", "%s", "{}"),
]


def values(count: int, folder: pathlib.Path, table: Table) -> None:
    """Gives each flag of each command `count` odd values, some with a second flag."""
    for name in ("train", "eval", "predict", "compare", "export"):
        help_text = call_in_process(name, "--helpfull", cwd=folder).stdout
        names = re.findall(r"^  --(?:\[no\])?(\w+)$", help_text, re.MULTILINE)
        for flag in names:
            for value in random.sample(ODD, min(count, len(ODD))):
                words = [f"--{flag}={value}"]
                if random.random() < 0.3:
                    words.append(f"--{random.choice(names)}={random.choice(ODD)}")
                attempt(
                    table,
                    f"flags of {name}",
                    f"{words!r}",
                    lambda name=name, words=words: give(name, words, folder),
                )


class AcceptedError(Exception):
    """Raised when a command has accepted its flags and would begin its work."""


def give(name: str, words: list[str], folder: pathlib.Path) -> str:
    """Returns whether a command accepts its flags; for training, JAX must do so too."""

    def begin(*_: object, **__: object) -> None:
        if name == "train":
            config = config_flags.read()
            program = build_program(config, 10)
            images = np.zeros((1, 32, 32, 3), np.uint8)
            jax.eval_shape(lambda: init_state(program, jax.random.key(0), images))
            program.learning_rate(0)
        raise AcceptedError

    before = {path.name for path in folder.iterdir()}
    with (
        mock.patch("cifar_jax.data.load", begin),
        mock.patch("cifar_jax.eval._wait_for_run", begin),
        # This rightly creates the folder that it is given.
        mock.patch("cifar_jax.devices.compilation._use"),
    ):
        try:
            arguments = {"predict": ["x.png"], "compare": ["x"]}.get(name, [])
            done = call_in_process(name, *words, *arguments, cwd=folder)
        except AcceptedError:
            done = None
    new = {path.name for path in folder.iterdir()} - before
    assert not new, f"has left {new}"
    if done is None:
        return "accepted"
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode == 0:
        return "accepted"
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    assert len(lines) == 1, done.stderr
    return "refused on one line"
