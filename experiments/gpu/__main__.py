"""Which figures need a GPU, and what are they?

    python -m experiments.gpu --minutes=9 --json=DIR --data_dir=DATA

Measures as many of figures.py as there is time for, most wanted first, and writes each
one to DIR/gpu.json at once. A run starts only if it is expected to end in time. The
same command continues later, also on another machine, with the file from before: it is
small. Prints what is still open; --minutes=0 prints only that.

--dry_run tries everything at a tiny size on the bundled digits, also on a CPU.
"""

import itertools
import pathlib
import time

from absl import flags

from cifar_jax import RunError, UserError
from experiments.gpu import measure
from experiments.gpu.figures import FIGURES, Precision
from experiments.gpu.results import Results
from experiments.harness import common, machine, output

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_float("minutes", 9, "Minutes to use, at most.", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "Try everything at a tiny size, on any device.")


def main(argv: list[str]) -> None:
    """Measures what is open and prints what still is."""
    del argv
    ends = time.time() + 60 * FLAGS.minutes
    if not FLAGS.json:
        raise UserError("pass --json=DIR, the folder for the results")
    folder = pathlib.Path(FLAGS.json)
    figures = [f.tiny() for f in FIGURES] if FLAGS.dry_run else list(FIGURES)
    failures: list[str] = []
    Results(folder)  # Refuses an unusable file before anything is measured.
    if FLAGS.minutes:
        facts = machine.machine() | {"device": machine.isolated(machine.device)}
        print(output.describe(facts), flush=True)
        if facts["device"].startswith("cpu") and not FLAGS.dry_run:
            raise UserError("JAX finds no GPU here; --dry_run tries the figures anyway")
        given = folder, FLAGS.data_dir, ends
        for kind, group in itertools.groupby(figures, type):
            if kind is Precision:
                # Ends with the process, which leaves the GPU to the next one.
                failures += machine.isolated(measure.measure, [*group], *given)
            else:
                failures += measure.measure([*group], *given)
    print(f"\n{Results(folder).table(figures)}")
    if failures:
        raise RunError(f"{len(failures)} of them failed: {'; '.join(failures)}")


if __name__ == "__main__":
    common.run(main, define_flags)
