"""Evaluates a training run: python -m cifar_jax.eval.

Prints the precision @ 1 (accuracy) of the averaged parameters and counts every image
exactly once. With --run_once=False, it follows a run that is still training; with
--report=DIR, it writes a page on what the network gets right and wrong.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import datetime
import math
import pathlib
import time
from collections.abc import Iterator, Sequence

from absl import flags

from cifar_jax import command, data
from cifar_jax.console import say, warn
from cifar_jax.data import Dataset, Split
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation import metrics, report
from cifar_jax.evaluation.inference import BATCH_SIZE, predict_logits
from cifar_jax.runs import checkpoints, lock, run_dir
from cifar_jax.runs.files import check_folder
from cifar_jax.runs.run_dir import Run
from cifar_jax.runs.summaries import Writer
from cifar_jax.training import trained

_POLL_SECS = 1.0
_LARGEST = 2**31 - 1


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    command.no_arguments(arguments)
    options = flags.FLAGS
    if not math.isfinite(options.eval_interval_secs):
        raise UserError(
            f"--eval_interval_secs={options.eval_interval_secs} must be a finite number"
        )
    directory = pathlib.Path(options.checkpoint_dir)
    eval_dir = pathlib.Path(options.eval_dir or directory / "eval")
    if options.eval_dir:
        check_folder(eval_dir, "eval_dir")
    if options.report:
        report.check(pathlib.Path(options.report))
    if not options.run_once:
        _wait_for_run(directory)
    run = run_dir.read(directory)
    dataset = data.load(
        run.config.dataset,
        options.data_dir or run.config.data_dir,
        run.config.validation_size,
        **run.config.data_options,
    )
    command.banner(dataset.notice)
    if other_pixels := _other_pixels(run, dataset):
        say(other_pixels)
    split = dataset.split(options.eval_data)
    limit = options.num_examples or len(split)
    part = Split(split.images[:limit], split.labels[:limit])
    name = options.eval_data + ("_raw" if options.raw_params else "")
    if len(part) < len(split):
        name += "_partial"
    with Writer(eval_dir, name, prefix=f"{name}/") as writer:
        if options.run_once:
            _evaluate(run, None, dataset, part, len(split), writer)
        else:
            for step in _new_steps(run, options.eval_interval_secs):
                try:
                    _evaluate(run, step, dataset, part, len(split), writer)
                except (RunError, UserError) as error:
                    # Damaged, or deleted in the meantime in favor of newer ones.
                    warn(f"{error}; skipped")
    command.banner(dataset.notice)
    return 0


def _evaluate(
    run: Run,
    step: int | None,
    dataset: Dataset,
    split: Split,
    examples_in_split: int,
    writer: Writer,
) -> None:
    """Evaluates one checkpoint, or the newest if step is None, and reports it."""
    options = flags.FLAGS
    network = trained.load(run, step, options.raw_params)
    kind = "raw" if options.raw_params else "averaged"
    count = f"{len(split)}"
    if len(split) < examples_in_split:
        count = f"the first {len(split)} of {examples_in_split}"
    say(
        f"step {network.step} of {run.path}, {kind} parameters, "
        f"{count} {options.eval_data} images"
    )
    logits = predict_logits(network, split.images, options.batch_size)
    precision = metrics.accuracy(logits, split.labels)
    now = datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")
    say(f"{now}: precision @ 1 = {precision:.3f}")
    counts = {"num_examples": len(split), "examples_in_split": examples_in_split}
    writer.write(network.step, {"precision_at_1": precision}, facts=counts)
    if options.report:
        subject = report.Subject(
            run=str(run.path),
            step=network.step,
            parameters=kind,
            split=options.eval_data,
            examples_in_split=examples_in_split,
            class_names=network.class_names,
            data_source=dataset.source,
            data_fingerprint=dataset.fingerprint,
            notices=tuple(filter(None, [dataset.notice, _other_pixels(run, dataset)])),
            time=now,
        )
        page = report.write(pathlib.Path(options.report), subject, split, logits)
        say(f"report written to {page}")


def _other_pixels(run: Run, dataset: Dataset) -> str | None:
    """Returns a warning if the run was trained on different data."""
    if dataset.fingerprint == run.data_fingerprint:
        return None
    return f"warning: trained on different pixels: {run.data_source}"


def _new_steps(run: Run, interval_secs: float) -> Iterator[int]:
    """Yields the step of each new checkpoint once, until training has finished.

    If training stops before its last step, it may be restarted; this waits for one
    interval before giving up.
    """
    seen: set[int] = set()
    while True:
        # Checked before the checkpoints are listed, so that the last one is not missed.
        at_work = lock.is_training(run.path)
        new = [step for step in checkpoints.steps(run.checkpoints) if step not in seen]
        seen.update(new)
        yield from new
        max_steps = run_dir.read(run.path).config.max_steps
        if max(seen, default=0) >= max_steps:
            say(f"training has finished at step {max_steps} (--max_steps)")
            return
        if at_work:
            _sleep_while_training(run.path, interval_secs)
        elif not new:
            say(
                f"no training is running in {run.path}, which has not reached step "
                f"{max_steps}; waiting {interval_secs:g} s for it to be restarted"
            )
            if not _training_starts_within(run.path, interval_secs):
                break
    reason = f"training in {run.path} was not restarted within {interval_secs:g} s"
    if not seen:
        raise UserError(f"{reason} and has saved no checkpoint")
    say(f"{reason}; its last checkpoint is that of step {max(seen)}")


def _training_starts_within(directory: pathlib.Path, seconds: float) -> bool:
    """Waits for training to start in the directory; returns whether it did in time."""
    deadline = time.monotonic() + seconds
    while not (at_work := lock.is_training(directory)):
        if time.monotonic() >= deadline:
            break
        time.sleep(min(_POLL_SECS, seconds))
    return at_work


def _sleep_while_training(directory: pathlib.Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and lock.is_training(directory):
        time.sleep(min(_POLL_SECS, seconds))


def _wait_for_run(directory: pathlib.Path) -> None:
    """Waits until a training run has started in the directory."""
    if not run_dir.exists(directory):
        say(f"waiting for training to start in {directory} (Ctrl-C to cancel)")
    while not run_dir.exists(directory):
        time.sleep(_POLL_SECS)


def _define_flags() -> None:
    flags.DEFINE_string(
        "checkpoint_dir", "cifar10_train", "Folder of the run, its --train_dir."
    )
    flags.DEFINE_string(
        "eval_dir", None, "Folder for the summaries. Default: CHECKPOINT_DIR/eval."
    )
    flags.DEFINE_enum(
        "eval_data",
        "test",
        ["test", "train_eval", "validation"],
        "Images to evaluate: test; train_eval, the training images; validation, the "
        "held-out images.",
    )
    flags.DEFINE_boolean(
        "run_once", True, "Evaluate once; --run_once=False follows the run."
    )
    flags.DEFINE_float(
        "eval_interval_secs",
        300.0,
        "Seconds between checks for new checkpoints; also how long to wait for a "
        "stopped run to be restarted.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "num_examples",
        0,
        "Evaluate only the first NUM_EXAMPLES images; 0 evaluates all. Partial results "
        "are recorded separately.",
        lower_bound=0,
        upper_bound=_LARGEST,
    )
    flags.DEFINE_integer(
        "batch_size",
        BATCH_SIZE,
        "Images per batch, over all devices together; rounded up to a multiple of the "
        "number of devices.",
        lower_bound=1,
        upper_bound=_LARGEST,
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder of the data. Default: the one the run was trained on."
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not the averages."
    )
    flags.DEFINE_string(
        "report",
        None,
        "Folder for report.html, a page with per-class scores, the confusion matrix, "
        "the calibration and the most confident mistakes, and for report.json with the "
        "same numbers. Earlier reports there are replaced.",
    )


if __name__ == "__main__":
    _define_flags()
    command.run(main, __doc__)
