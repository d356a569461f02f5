"""Evaluates a training run: python -m cifar_jax.eval.

Prints the precision @ 1 (accuracy) of the averaged parameters, counting every image
exactly once. With --run_once=False, it follows a run that is still training; with
--report=DIR, it writes a page on what the network gets right and wrong.

--eval_data=cifar10.1 and --eval_data=cifar10-c test the robustness of a network trained
on CIFAR-10; the latter prints a table of errors, which --report=DIR also plots.
--attack="pgd(eps=8/255, steps=10)" tests it on images changed to mislead it.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import datetime
import functools
import math
import pathlib
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from cifar_jax import command
from cifar_jax.console import say, warn
from cifar_jax.data.cifar import robustness
from cifar_jax.data.cifar.robustness import CorruptedImages
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation import attacks, comparison, corruption, report, tasks
from cifar_jax.evaluation.attacks import ATTACKS
from cifar_jax.evaluation.batching import BATCH_SIZE
from cifar_jax.evaluation.inference import Trained, predict_logits
from cifar_jax.evaluation.measuring import (
    facts,
    format_metrics,
    measure,
    put_in_perspective,
)
from cifar_jax.evaluation.tasks import Task
from cifar_jax.metrics import EVAL_METRICS, scores
from cifar_jax.registry import canonicalize, names, resolve, signatures
from cifar_jax.runs import checkpoints, following, lock, run_dir
from cifar_jax.runs.files import check_folder
from cifar_jax.runs.run_dir import Run
from cifar_jax.training import trained
from cifar_jax.writers import Summary, Writers

_POLL_SECS = 1.0
# Writes what is known about the step of a checkpoint, as arguments of `Summary`.
Record = Callable[..., None]
_LARGEST = 2**31 - 1


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    command.refuse_arguments(arguments)
    options = flags.FLAGS
    if not math.isfinite(options.eval_interval_secs):
        raise UserError(
            f"--eval_interval_secs={options.eval_interval_secs} must be a finite number"
        )
    if options.best and not options.run_once:
        raise UserError("--best is a single checkpoint; omit --run_once=False")
    directory = pathlib.Path(options.checkpoint_dir)
    eval_dir = pathlib.Path(options.eval_dir or directory / "eval")
    if options.eval_dir:
        check_folder(eval_dir, "eval_dir")
    if options.attack:
        _check_attack()
    if options.report:
        files = corruption.FILES if options.eval_data == "cifar10-c" else report.FILES
        report.check(pathlib.Path(options.report), files)
    if not options.run_once:
        _wait_for_run(directory)
    run = run_dir.read(directory)
    # Other users may only be able to read the folder of the run.
    check_folder(eval_dir, "eval_dir")
    task = tasks.read(
        run,
        options.eval_data,
        options.data_dir or run.config.data_dir,
        options.num_examples,
    )
    command.print_banner(task.notice, say)
    if task.warning:
        say(task.warning)
    name = options.eval_data + ("_raw" if options.raw_params else "")
    if task.has_other_data:
        name += "_other_data"
    if options.attack:
        name += f"_{names(options.attack, 'attack')[0]}"
    if task.count < len(task.images):
        name += "_partial"
    # A run that is followed may be resumed at any moment.
    info = run.info(is_training=not options.run_once or lock.is_training(run.path))
    with Writers(run.config.writers, eval_dir, info, say) as writers:
        record = functools.partial(_record, writers, name)
        if options.run_once:
            _evaluate(run, None, task, record)
        else:
            for now, step in following.new_steps(run, options.eval_interval_secs):
                try:
                    _evaluate(now, step, task, record)
                except (RunError, UserError) as error:
                    # Training deletes old checkpoints as it saves new ones.
                    if step in checkpoints.named_steps(now.checkpoints):
                        warn(f"{error}; skipped")
    command.print_banner(task.notice, say)
    return 0


def _check_attack() -> None:
    """Raises UserError if the attack cannot be used, or not with the other flags."""
    options = flags.FLAGS
    resolve(options.attack, ATTACKS, "attack")
    for other, given in [
        ("--eval_data=cifar10-c", options.eval_data == "cifar10-c"),
        ("--report", options.report),
    ]:
        if given:
            raise UserError(f"--attack cannot be combined with {other}; omit one")


def _evaluate(run: Run, step: int | None, task: Task, record: Record) -> None:
    """Evaluates a checkpoint, the newest if step is None, and reports the results."""
    options = flags.FLAGS
    network = trained.load(run, step, options.raw_params, options.best)
    kind = "raw" if options.raw_params else "averaged"
    count = f"{task.count}"
    if task.count < len(task.images):
        count = f"the first {task.count} of {len(task.images)}"
    evaluate, which = _evaluate_split, "images"
    if isinstance(task.images, CorruptedImages):
        evaluate, which = _evaluate_corrupted, "images of each corruption and severity"
    elif options.attack:
        evaluate = _evaluate_attacked
    say(
        f"step {network.step} of {run.path}, {kind} parameters, "
        f"{count} {options.eval_data} {which}"
    )
    page = evaluate(run, network, task, record)
    if page is not None:
        say(f"report written to {page}")


def _evaluate_split(
    run: Run, network: Trained, task: Task, record: Record
) -> pathlib.Path | None:
    """Prints and records the precision; returns the path of the report, or None."""
    options = flags.FLAGS
    images, part = task.image_set, task.part()
    logits = predict_logits(network, part.images, options.batch_size)
    found = measure(options.eval_metrics, logits, part.labels, run.class_names)
    now = _now()
    say(f"{now}: precision @ 1 = {found['precision_at_1']:.3f}{format_metrics(found)}")
    if (words := put_in_perspective(logits, part.labels, run.class_names)) is not None:
        say(words)
    record(
        network.step, found, facts(logits, part.labels, len(images), images.fingerprint)
    )
    if not options.report:
        return None
    subject = _subject(run, network, task, len(images), images.fingerprint, now)
    history = read_history(run)
    page = report.write(pathlib.Path(options.report), subject, part, logits, history)
    pictures, pages = report.shown(page, part)
    record(network.step, images=pictures, pages=pages)
    return page


def read_history(run: Run) -> comparison.History | None:
    """Returns the run's history, or None, with a warning, if it is damaged."""
    try:
        return comparison.read(run)
    except UserError as error:
        warn(f"{error}; the report has no training curves")
        return None


def _evaluate_attacked(run: Run, network: Trained, task: Task, record: Record) -> None:
    """Prints and records the precision under attack, and without it."""
    options = flags.FLAGS
    images, part = task.image_set, task.part()
    attack = resolve(options.attack, ATTACKS, "attack")
    clean = predict_logits(network, part.images, options.batch_size)
    logits = attacks.predict_attacked(network, part, attack, options.batch_size)
    found = measure(options.eval_metrics, logits, part.labels, run.class_names)
    without = scores.accuracy(clean, part.labels)
    say(
        f"{_now()}: precision @ 1 = {found['precision_at_1']:.3f} under "
        f"{options.attack}, {without:.3f} without it{format_metrics(found)}"
    )
    about = facts(logits, part.labels, len(images), images.fingerprint)
    record(
        network.step,
        found | {"precision_at_1_without_attack": without},
        about | {"attack": canonicalize(options.attack, "attack")},
    )


def _evaluate_corrupted(
    run: Run, network: Trained, task: Task, record: Record
) -> pathlib.Path | None:
    """Prints and records the errors; returns the path of their plot, or None."""
    options = flags.FLAGS
    images = task.images
    assert isinstance(images, CorruptedImages)
    errors, fingerprint = corruption.evaluate(
        network, images, task.count, options.batch_size
    )
    now = _now()
    say(*corruption.table(errors).splitlines())
    say(f"{now}: {corruption.headline(errors)}")
    whole = errors.size * len(images)
    about: dict[str, int | str] = {
        "num_examples": errors.size * task.count,
        "examples_in_split": whole,
        "fingerprint": fingerprint,
    }
    record(network.step, corruption.scalars(errors), about)
    if not options.report:
        return None
    subject = _subject(run, network, task, whole, fingerprint, now)
    page = corruption.write(pathlib.Path(options.report), subject, errors, task.count)
    record(network.step, images=corruption.shown(page))
    return page


def _subject(
    run: Run, network: Trained, task: Task, whole: int, fingerprint: str, now: str
) -> report.Subject:
    """Returns a description of the network and data for a report."""
    return report.Subject(
        run=run.path.resolve().name,
        step=network.step,
        parameters="raw" if flags.FLAGS.raw_params else "averaged",
        split=flags.FLAGS.eval_data,
        examples_in_split=whole,
        class_names=network.class_names,
        data_source=report.without_directories(task.images.source),
        data_fingerprint=fingerprint,
        notices=tuple(
            report.without_directories(notice)
            for notice in (task.notice, task.warning)
            if notice
        ),
        time=now,
    )


def _record(
    writers: Writers,
    series: str,
    step: int,
    scalars: Mapping[str, float] = types.MappingProxyType({}),
    facts: Mapping[str, int | str] = types.MappingProxyType({}),
    **shown: Any,
) -> None:
    """Writes the results of one evaluation, or what its report shows."""
    writers.write(Summary(series, step, scalars, facts, **shown))


def _now() -> str:
    return datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")


def _wait_for_run(directory: pathlib.Path) -> None:
    """Waits until a training run has started in the directory."""
    if not run_dir.exists(directory):
        say(f"waiting for training to start in {directory} (Ctrl-C to cancel)")
    while not run_dir.exists(directory):
        time.sleep(_POLL_SECS)


def define_flags() -> None:
    """Defines the flags of this command."""
    command.define_path(
        "checkpoint_dir", "cifar10_train", "Folder of the run, its --train_dir."
    )
    command.define_path(
        "eval_dir", None, "Folder for the summaries. Default: CHECKPOINT_DIR/eval."
    )
    flags.DEFINE_enum(
        "eval_data",
        "test",
        ["test", "train_eval", "validation", *robustness.SETS],
        "Images to evaluate: test; train_eval, the training images; validation, the "
        "held-out images; for networks trained on CIFAR-10 also cifar10.1, new "
        "photographs of the same classes, and cifar10-c, the test images under 19 "
        "corruptions at five severities. The last two are read from the data folder, "
        "or downloaded to it.",
    )
    flags.DEFINE_string(
        "attack",
        None,
        "Change the images to mislead the network first, by at most EPS, a fraction of "
        "the range of pixels: fgsm(eps=8/255) or pgd(eps=8/255, steps=10, "
        "step_size=None, seed=0).",
    )
    flags.DEFINE_string(
        "eval_metrics",
        "",
        f"Additional metrics. Choices: {signatures(EVAL_METRICS)}.",
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
        "Evaluate only the first NUM_EXAMPLES images (for cifar10-c, of each "
        "corruption and severity); 0 evaluates all. Partial results are recorded "
        "separately.",
        lower_bound=0,
        upper_bound=_LARGEST,
    )
    flags.DEFINE_integer(
        "batch_size",
        BATCH_SIZE,
        "Images per batch, across all devices; rounded up to a multiple of the number "
        "of devices.",
        lower_bound=1,
        upper_bound=_LARGEST,
    )
    command.define_path(
        "data_dir", None, "Folder of the data. Default: the one used for training."
    )
    flags.DEFINE_boolean(
        "best",
        False,
        "Evaluate the checkpoint that train --keep_best kept, not the newest.",
    )
    flags.DEFINE_boolean(
        "raw_params", False, "Use the last step's raw parameters, not their averages."
    )
    command.define_path(
        "report",
        None,
        "Folder for report.html, a page with training curves, per-class scores, the "
        "confusion matrix, calibration, and the most confident correct answers and "
        "mistakes, and report.json, with the same numbers; for cifar10-c, "
        "corruptions.png, a heat map of the errors, and corruptions.json. Earlier "
        "reports there are replaced.",
    )


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
