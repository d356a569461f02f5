"""Experiments on the course's questions, all of which draw what they find."""

import sys

from cifar_jax import extras
from cifar_jax.errors import UserError

# Here, as they import what they draw with when they are imported themselves.
try:
    extras.require("an experiment", "report", "matplotlib")
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
