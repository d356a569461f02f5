"""Tests the settings of sweeps: grids, random draws, and the names of their runs."""

import csv
import io
import re
import types

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import Config, UserError
from experiments.accuracy import sweep_space
from experiments.accuracy.search_space import Range
from experiments.accuracy.sweep_space import key


def test_values_stand_between_commas():
    grid = sweep_space.read_grid(
        [
            "learning_rate=0.1, 0.2",
            'distortions="crop, flip, brightness(63)",crop',
            "optimizer=sgd(momentum=0.5)",
            "param_groups=,\"group('a=b', frozen=True)\"",
            "loss=",
        ]
    )
    assert grid == {
        "learning_rate": ["0.1", "0.2"],
        "distortions": ["crop, flip, brightness(63)", "crop"],
        "optimizer": ["sgd(momentum=0.5)"],
        "param_groups": ["", "group('a=b', frozen=True)"],
        "loss": [""],
    }


values = st.text(st.characters(codec="ascii", exclude_characters="()\r\n\0"))


@given(st.lists(values.map(str.strip), min_size=1))
def test_every_value_can_be_quoted_as_in_csv(values):
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
    assert sweep_space.read_grid([f"loss={file.getvalue()}"]) == {"loss": values}


def test_a_space_has_ranges_and_choices():
    assert sweep_space.read_space(
        [
            "learning_rate=log(0.01, 1)",
            "warmup=uniform(0,0.5)",
            "seed=int(-1,3)",
            "ops=a,b",
        ]
    ) == {
        "learning_rate": Range(0.01, 1),
        "warmup": Range(0, 0.5, is_log=False),
        "seed": Range(-1, 3, is_log=False, is_integer=True),
        "ops": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "=seed is not of the form SETTING=VALUES"),
        ("sead=1", "there is no setting 'sead'"),
        ("data_dir=a", "data_dir is the same for all runs; pass it as --data_dir"),
        ("train_dir=a", "pass it as --out_dir"),
        (
            "optimizer=sgd(0.9, True)",
            "'sgd(0.9' has unbalanced parentheses; put a value",
        ),
        ('loss="a', "is not a list of values"),
        ("seed=1\n2", "is not a list of values"),
    ],
)
@pytest.mark.parametrize("read", [sweep_space.read_grid, sweep_space.read_space])
def test_unreadable_values_are_an_error(read, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read([text])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("log(0,1)", "must be above 0"),
        ("log(a,1)", "must have two numbers, the lower one first"),
        ("uniform(2,1)", "must have two numbers"),
        ("uniform(0,nan)", "must have two numbers"),
        ("uniform(-1e308,1e308)", "must have two numbers"),
        ("int(0,1.5)", "must have two integers"),
        (f"int(0,1{'0' * 400})", "must have two integers"),
    ],
)
def test_unusable_ranges_are_an_error(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        sweep_space.read_space([f"seed={values}"])


def test_a_setting_is_named_once():
    with pytest.raises(UserError, match="seed is named twice"):
        sweep_space.read_grid(["seed=0", "seed=1"])
    with pytest.raises(UserError, match="seed is in both --grid and --random"):
        sweep_space.points({"seed": ["0"]}, {"seed": ["1"]}, 1, 0)


SPACE = {"learning_rate": Range(0.01, 1), "seed": Range(0, 9, is_integer=True)}


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_more_trials_begin_with_the_same_ones(seed, few, more):
    trials = sweep_space.points({}, SPACE, few, seed)
    assert sweep_space.points({}, SPACE, few + more, seed)[:few] == trials
    backwards = dict(reversed(SPACE.items()))
    assert sweep_space.points({}, backwards, few, seed) == trials


@given(st.integers(0, 2**32), st.floats(1e-30, 1e30), st.floats(1.001, 1e5))
def test_draws_are_within_their_range(seed, low, factor):
    high = low * factor
    for is_log in (True, False):
        space = {"learning_rate": Range(low, high, is_log=is_log)}
        value = float(sweep_space.draw(space, seed, 0)["learning_rate"])
        assert low <= value <= high


def test_draws_differ_between_trials_and_seeds_and_reach_every_choice():
    draws = [key(sweep_space.draw(SPACE, seed, i)) for seed in (0, 1) for i in range(9)]
    assert len(set(draws)) == len(draws)
    chosen = {sweep_space.draw({"ops": ["a", "b"]}, 0, i)["ops"] for i in range(20)}
    assert chosen == {"a", "b"}


def test_each_trial_is_run_with_the_whole_grid():
    trials = sweep_space.points({"seed": ["0", "1"]}, {"ops": ["plain"]}, 2, 0)
    both = [{"ops": "plain", "seed": "0"}, {"ops": "plain", "seed": "1"}]
    assert trials == [both, both]
    grid = {"seed": ["0", "1"], "warmup": ["0", "0.1"]}
    [points] = sweep_space.points(grid, {}, 1, 0)
    assert list(map(key, points)) == [
        *("seed=0, warmup=0", "seed=0, warmup=0.1"),
        *("seed=1, warmup=0", "seed=1, warmup=0.1"),
    ]


def runs_of(*trials, **types):
    """Returns the runs for trials whose settings are numbers."""
    configs = {
        key(point): Config(**{name: types[name](text) for name, text in point.items()})
        for trial in trials
        for point in trial
    }
    return sweep_space.unique_runs(trials, configs)


def test_equal_points_of_a_grid_are_an_error():
    points = [{"seed": "1"}, {"seed": "01"}]
    with pytest.raises(UserError, match="seed=1 and seed=01 are the same run"):
        runs_of(points, seed=int)
    with pytest.raises(UserError, match="seed=1 and seed=1 are the same run"):
        runs_of([points[0], dict(points[0])], seed=int)


def test_a_draw_that_repeats_is_one_run():
    one, two = [{"seed": "1"}], [{"seed": "2"}]
    assert runs_of(one, two, one, seed=int) == [
        ("seed=1", {"seed": "1"}),
        ("seed=2", {"seed": "2"}),
    ]


def test_directories_are_named_by_what_the_settings_are():
    def name(**settings):
        return sweep_space.run_name(Config(**settings), sorted(settings))

    assert name(seed=1, learning_rate=1e-1) == "learning_rate=0.1,seed=1"
    drops = name(schedule="piecewise", learning_rate_drops=(0.5, 0.8))
    assert drops == "learning_rate_drops=0.5,0.8,schedule=piecewise"
    crops = [name(distortions=text) for text in ("crop, flip", "crop,flip", "crop")]
    assert re.fullmatch("distortions=crop,-flip~[0-9a-f]{8}", crops[0])
    assert crops[1:] == [crops[0], "distortions=crop"]


@given(st.text(), st.text())
def test_names_of_directories_are_safe_and_unique(one, two):
    names = [
        sweep_space.run_name(types.SimpleNamespace(init_from=text), ["init_from"])
        for text in (one, two)
    ]
    for name in names:
        assert re.fullmatch(r"[\w.,=+~-]{1,140}", name, re.ASCII)
    assert (names[0] == names[1]) == (one == two)


@pytest.fixture
def check():
    """Calls `sweep_space.check` on digits, as in a process without other flags."""
    before = set(flags.FLAGS)

    def call(fixed, *points):
        try:
            return sweep_space.check(fixed.split(), ["--dataset=digits"], [points])
        finally:
            for flag in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()

    return call


def test_settings_are_read_as_the_train_command_does(check, capsys):
    points = [{"seed": "1", "use_fp16": "True"}, {"seed": "2"}]
    configs, device, count = check("--recipe=sprint --max_steps=7", *points)
    first, second = configs.values()
    assert first == Config(
        recipe="sprint", max_steps=7, dataset="digits", seed=1, use_fp16=True
    )
    assert (second.seed, second.use_fp16) == (2, Config(recipe="sprint").use_fp16)
    assert (device[:3], count) == ("cpu", 1)
    assert "handwritten digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fixed", "value", "message"),
    [
        ("--max_step=3", "1", "Unknown command line flag 'max_step'"),
        ("max_steps=3", "1", "unexpected argument 'max_steps=3'"),
        ("--noprofile=3", "1", "noprofile"),
        ("", "x", "--seed=x"),
        ("", "-1", "--seed=-1 must be at least 0"),
        ("--seed=3", "1", "--train_flags sets seed, which the sweep sets itself"),
        ("--data_dir=a", "1", "--train_flags sets data_dir"),
        (
            "--labels=coarse",
            "1",
            "--labels=coarse is not an option of --dataset=digits",
        ),
        ("--validation_size=9999", "1", "--validation_size=9999 must be at least 0"),
    ],
)
def test_unusable_settings_are_found_before_anything_starts(
    check, fixed, value, message
):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        check(fixed, {"seed": value})
    assert "\n" not in str(error.value)
