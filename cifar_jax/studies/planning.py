"""What a study does next, from its flags and from what has been tried."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from optuna.trial import Trial, TrialState

from cifar_jax import console, data
from cifar_jax.config import flags as config_flags
from cifar_jax.config.config import Config
from cifar_jax.errors import UserError
from cifar_jax.runs.files import write_together
from cifar_jax.studies import choices, report, side_by_side, space
from cifar_jax.studies.report import Row
from cifar_jax.studies.running import Runner
from cifar_jax.studies.side_by_side import Processes, Share
from cifar_jax.studies.space import Setting, Space
from cifar_jax.studies.store import Store, Tried


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study, as its flags describe it.

    Attributes:
        store: what was tried so far.
        space: what each varied setting is drawn from.
        fixed: the texts of the train flags that all runs share.
        config: the config of a run without the varied settings that are not flags.
        sampler: the text of the sampler; empty if all combinations are tried.
        pruner: the text of the pruner.
        trials: the number of settings to try.
        seed: the seed of the draws.
        shares: the shares of the machine on which runs are made at a time.
        notice: what readers of the results must see about the data, or None.
    """

    store: Store
    space: Space
    fixed: Mapping[str, str]
    config: Config
    sampler: str
    pruner: str
    trials: int
    seed: int
    shares: Sequence[Share]
    notice: str | None = None

    @property
    def split(self) -> str:
        """The images to evaluate on: held-out ones, or else the test images."""
        return "validation" if self.config.validation_size else "test"

    def ask(self, tried: Sequence[Tried]) -> tuple[Trial, Setting] | None:
        """Returns the next setting to try, as a new trial; None if there are enough."""
        study = self.store.study
        number = len(tried)
        if not self.sampler:
            known = [one.setting for one in tried]
            left = [one for one in space.grid(self.space) if one not in known]
            return (study.ask(), left[0]) if left else None
        if number >= self.trials:
            return None
        own = None if number else self._own()
        # It is waiting already if a process was killed at this point.
        if own and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(own)
        # A new one each time: draws do not depend on which process makes them.
        study.sampler = choices.sampler(self.sampler, _seed(self.seed, number))
        trial = study.ask(dict(self.space))
        setting = {
            name: space.as_text(distribution, trial.params[name])
            for name, distribution in self.space.items()
        }
        return trial, setting

    def _own(self) -> dict[str, Any] | None:
        """Returns the values without the study, from which a search starts.

        It returns None if one of them is not in its range, or is not known.
        """
        starts = space.starts(self.space, self.fixed)
        found = {}
        for name, distribution in self.space.items():
            text = starts.get(name)
            if text is None:
                if not hasattr(self.config, name):
                    return None
                text = config_flags.format_value(getattr(self.config, name))
            found[name] = space.as_value(distribution, text)
        return None if None in found.values() else found


def _seed(seed: int, number: int) -> int:
    # Seeds of NumPy's RandomState, which Optuna uses, are below 2**32.
    return (seed * 1_000_003 + number) % 2**32


def read(options: flags.FlagValues) -> Plan:
    """Returns the study that the flags describe, which is created or continued.

    The data is loaded, so that it is downloaded and prepared only once.

    Raises:
        UserError: the flags cannot be used, or the folder has another study.
    """
    fixed = _fixed(options)
    varied = space.read(options.vary, fixed)
    is_grid = space.is_grid(varied)
    if not is_grid and options.sampler is None:
        raise UserError("--vary has a range: pass --sampler=tpe and --trials=N")
    if options.sampler is not None and options.trials is None:
        raise UserError(f"--sampler={options.sampler} needs --trials, how many to try")
    if options.sampler is None and options.trials is not None:
        raise UserError("--trials is for a --sampler; without one, all are tried")
    starts = space.starts(varied, fixed)
    if starts and options.sampler is None:
        name, text = next(iter(starts.items()))
        raise UserError(
            f"--vary={name}=... tries its values in order; another flag has {name}="
            f"{text}, where only a --sampler would start; remove it"
        )
    sampler = options.sampler or ""
    if sampler:
        choices.sampler(sampler, 0)
    config = _check(varied, fixed)
    settings: dict[str, Any] = {
        "flags": dict(sorted(fixed.items())),
        # Values may be added to a list, but not to what a sampler has drawn from.
        "vary": {n: repr(d) if sampler else "" for n, d in sorted(varied.items())},
        "sampler": sampler,
        "pruner": options.pruner,
        "sampler_seed": options.sampler_seed,
    }
    pruner = choices.pruner(options.pruner)
    if options.pruner != "none" and not config.eval_frequency:
        raise UserError(
            f"--pruner={options.pruner} needs evaluations during training; pass "
            "--eval_frequency, their number of steps"
        )
    loaded = data.load(
        config.dataset, config.data_dir, config.validation_size, **config.data_options
    )
    store = Store(
        pathlib.Path(options.study_dir),
        settings,
        options.seeds,
        of_guess=1 / len(loaded.class_names),
    )
    store.study.pruner = pruner
    return Plan(
        store=store,
        space=varied,
        fixed=fixed,
        config=config,
        sampler=sampler,
        pruner=options.pruner,
        trials=options.trials or len(space.grid(varied)),
        seed=options.sampler_seed,
        shares=side_by_side.shares(options.at_a_time),
        notice=loaded.notice,
    )


def _fixed(options: flags.FlagValues) -> dict[str, str]:
    """Returns the texts of the train flags that were passed."""
    found = {}
    for field in dataclasses.fields(Config):
        flag = options[field.name]
        if not flag.present:
            continue
        if field.name in ("train_dir", "seed"):
            instead = {"train_dir": "study_dir", "seed": "seeds"}[field.name]
            raise UserError(
                f"--{field.name} differs between the runs of a study; use --{instead}"
            )
        value = flag.value
        found[field.name] = ",".join(value) if isinstance(value, list) else str(value)
    return found


def _check(varied: Space, fixed: Mapping[str, str]) -> Config:
    """Returns the config of the first setting, after checking all that are listed.

    Raises:
        UserError: a setting that is listed, or an end of a range, cannot be used.
    """
    settings = space.grid(varied) if space.is_grid(varied) else space.corners(varied)
    for setting in settings:
        config_flags.parse(space.flags(setting, fixed))
    usual = space.flags(settings[0], fixed)
    return config_flags.parse(
        {name: text for name, text in usual.items() if name not in varied}
    )


def work(plan: Plan, processes: Processes) -> list[Tried]:
    """Makes the runs that are left, and waits for those of other processes.

    Returns:
        All settings that were tried.
    """
    runner = Runner(processes, plan.fixed, plan.split, plan.pruner != "none")
    store = plan.store
    store.retry_failed()

    def make_runs(share: Share) -> None:
        share.take()
        while True:
            processes.check()
            with store.claimed(plan.ask) as job:
                if job is not None:
                    result = runner.run(share, job)
                    trials = store.finish(job, result)
                    console.say(_progress(job.folder, result, trials, plan))
                    continue
            if store.is_done():
                return
            processes.wait(1)

    with concurrent.futures.ThreadPoolExecutor(len(plan.shares)) as pool:
        for done in [pool.submit(make_runs, share) for share in plan.shares]:
            done.result()
    return store.trials()


def _progress(
    folder: pathlib.Path,
    result: Mapping[str, Any],
    trials: Sequence[Tried],
    plan: Plan,
) -> str:
    """Returns the line about a run that has ended."""
    ended = sum(len(tried.results) for tried in trials)
    count = max(plan.trials, len(trials)) * len(plan.store.seeds)
    name = f"{folder.parent.name}, {folder.name}"
    if "precision" in result:
        found = f"{plan.split} precision @ 1 = {result['precision']:.4f}"
    else:
        found = ", ".join(f"{outcome}: {why}" for outcome, why in result.items())
    return f"{name}: {found} ({ended} of {count} runs)"


def write(plan: Plan, rows: Sequence[Row], baseline: int) -> None:
    """Writes the table in several formats, and the plot if it can be drawn."""
    split = plan.split
    text = report.table(rows, split)
    lines = report.notes(rows, split, baseline, len(plan.store.seeds) > 1)
    facts = {"split": split, "baseline": baseline, "flags": dict(plan.fixed)}
    files: dict[str, str | bytes] = {
        "study.json": report.as_json(rows, facts),
        "study.csv": report.as_csv(rows),
        "study.md": "\n".join([text, "", *(f"- {line}" for line in lines), ""]),
    }
    try:
        from cifar_jax.studies import plot
    except ModuleNotFoundError as error:
        console.warn(f"no plot: {error}; pip install 'cifar-jax[report]'")
    else:
        files["study.png"] = plot.as_png(rows, split, bool(plan.sampler))
    write_together(plan.store.folder, files)
