"""Prints a fingerprint of a training run, to compare two versions of the code.

    python tests/bits.py --data_dir=DIR [--max_steps=300] [--recipe=tutorial]

If both versions print the same lines on the same machine, then every logged loss and
every bit of the raw and averaged variables is the same. The last line covers only the
variables.
"""

import argparse
import hashlib
import re

import jax
import numpy as np

from cifar_jax import Config, fit, load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--recipe", default="tutorial")
    parser.add_argument("--max_steps", type=int, default=300)
    options = parser.parse_args()
    dataset = load_data(options.dataset, options.data_dir)
    config = Config(recipe=options.recipe, max_steps=options.max_steps, train_dir=None)
    losses = []

    def log(line: str) -> None:
        losses.extend(re.findall(r"step \d+, loss = \S+", line))

    result = fit(config, dataset, log)
    log = hashlib.sha256("\n".join(losses).encode())
    variables = hashlib.sha256()
    for tree in (result.state.variables, result.trained.variables):
        for leaf in jax.tree.leaves(tree):
            for digest in (log, variables):
                digest.update(np.asarray(leaf).tobytes())
    print(f"{options.recipe}, {options.max_steps} steps, {losses[-1]}")
    print(log.hexdigest())
    print(variables.hexdigest())


if __name__ == "__main__":
    main()
