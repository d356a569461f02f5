"""Experiments on the course's questions; all of them draw their results."""

import sys

from cifar_jax import extras
from cifar_jax.errors import UserError

# Checked here because the experiments import matplotlib at the top of their files.
try:
    extras.require("an experiment", "report", "matplotlib")
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
