"""How experiments start and end."""

import functools
import os
import pathlib
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from cifar_jax import plugins, startup
from cifar_jax.errors import RunError, Stopped, UserError
from experiments.harness import output
from experiments.harness.children import ChildFailedError

# Makes --help list the flags defined here under the running experiment.
flags.disclaim_key_flags()


def run(
    main: Callable[[list[str]], None],
    define_flags: Callable[[], None],
    draw: output.Draw | None = None,
) -> None:
    """Parses the flags and runs an experiment, handling errors as the commands do.

    Args:
        main: Runs the experiment; takes the arguments that are not flags.
        define_flags: Defines the experiment's own flags. It is called here rather than
            at import, so that several experiments can be imported together.
        draw: Returns the figure for the experiment's record, so that --redraw can
            update figures without measuring again.
    """
    flags.DEFINE_string("dataset", "cifar10", "Same as for the train command.")
    flags.DEFINE_string("data_dir", "", "Same as for the train command.")
    flags.DEFINE_list("import", [], "Same as for the train command.")
    flags.DEFINE_string("json", "", "Write the result to this file as JSON.")
    if draw:
        flags.DEFINE_string(
            "redraw", "", "Only redraw the figure for this .json file; measure nothing."
        )
    define_flags()
    # Child processes, including PyTorch's, get our commands' memory settings.
    os.environ.update(startup.environment())
    app.run(functools.partial(run_guarded, main, draw), flags_parser=_parse)


def _parse(words: list[str]) -> list[str]:
    """Parses the flags; a bad one ends the process, as it does for the commands."""
    try:
        return flags.FLAGS(words)
    except (flags.Error, ValueError) as error:  # ValueError: --nofull=3, for example
        print(f"error: {error} (--help lists the flags)", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except SystemExit:  # After --help, absl exits with 1, our commands with 0.
        sys.exit(0)


def run_guarded(
    main: Callable[[list[str]], None], draw: output.Draw | None, argv: list[str]
) -> None:
    """Runs an experiment, and ends the process with one line if it fails."""
    # app.run makes absl and JAX log at level INFO; our commands do not.
    logging.set_verbosity(logging.WARNING)
    try:
        if len(argv) > 1:
            raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
        plugins.load(flags.FLAGS["import"].value or [])
        if draw and flags.FLAGS.redraw:
            output.redraw(draw, pathlib.Path(flags.FLAGS.redraw))
        else:
            main(argv)
    except (UserError, RunError, Stopped) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ChildFailedError as error:
        print(f"error: a child process failed: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
