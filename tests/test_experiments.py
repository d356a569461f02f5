"""Tests the benchmarks at sizes so small that their results are meaningless."""

import importlib
import json
import os
import re
import types

import jax
import numpy as np
import pytest
from run_experiments import call, call_experiment, run_experiment

from cifar_jax import Config, create_model
from experiments.accuracy import recipes
from experiments.devices import many_seeds
from experiments.harness import common
from experiments.harness.contenders import MODELS, PEERS, Contender
from experiments.speed.train_step import over_pytorch, speed


@pytest.fixture
def benchmark(tmp_path):
    """Runs a benchmark on digits as a command; returns its output and record."""

    def run(name: str, *arguments: str) -> tuple[str, dict]:
        path = tmp_path / "kept" / f"{name.partition('.')[2]}.json"
        flags = ("--dataset=digits", f"--json={path}")
        text = run_experiment(name, *flags, *arguments, tmp_path=tmp_path)
        return text, json.loads(path.read_text())

    return run


def cells(text: str, first: str) -> list[str]:
    """Returns the rest of the row of a printed table that begins with this cell."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")
    ]
    [found] = [row[1:] for row in rows if row and row[0] == first]
    return found


@pytest.mark.slow
def test_convolutions_are_timed_both_ways(tmp_path):
    path = tmp_path / "kept.json"
    sizes = ("--batch_size=1", "--rounds=1")
    text = call_experiment("speed.convolutions", *sizes, f"--json={path}")
    cases = json.loads(path.read_text())["cases"]
    assert all(min(*case["plain"], *case["fast"]) > 0 for case in cases)
    for method, count in (("depthwise", 3), ("grouped", 2)):
        assert len([row for row in text.split("\n") if f" {method} " in row]) == count


@pytest.mark.slow
def test_the_parts_of_a_step_add_up(benchmark):
    text, kept = benchmark("speed.step_parts", "--models=tutorial", "--batch_size=8")
    step = kept["models"]["tutorial"]
    parts = step["parts"].values()
    assert sum(part["ms"] for part in parts) == pytest.approx(step["ms"])
    assert all(part["ms"] >= 0 for part in parts)
    # The convolution theorem needs fewer than the network as written.
    written = 8 * 13.4 / 128
    assert 0.1 * written < sum(part["gflop"] for part in parts) < written
    assert cells(text, "other products")


@pytest.mark.slow
def test_streaming_is_timed_beside_images_on_the_device(benchmark):
    text, kept = benchmark(
        "speed.streaming", "--pictures=256", "--rounds=2", "--steps=2"
    )
    assert [case["picture_size"] for case in kept["cases"]] == [32, 256]
    for case in kept["cases"]:
        low, high = case["share_range"]
        assert 0 < low <= case["share"] <= high
        row = cells(text, f"{case['picture_size']}x{case['picture_size']}")
        assert row[1] == f"{case['reading_images_per_sec']:,.0f}"


@pytest.mark.slow
def test_distortions_are_timed_beside_the_step(tmp_path):
    path = tmp_path / "kept.json"
    sizes = ("--recipes=tutorial", "--rounds=2")
    text = call_experiment("speed.distortions", *sizes, f"--json={path}")
    [record] = json.loads(path.read_text())["recipes"]
    assert 0 < np.median(record["distortions"]) < np.median(record["step"])
    assert cells(text, "tutorial")[1] == f"{np.median(record['distortions']):.1f}"


@pytest.mark.slow
def test_chosen_distortions_are_timed_in_place_of_the_recipes(tmp_path):
    path = tmp_path / "kept.json"
    applied = ["--distortions=crop", "--distortions=crop, flip"]
    sizes = ("--recipes=tutorial", "--rounds=1", *applied)
    call_experiment("speed.distortions", *sizes, f"--json={path}")
    records = json.loads(path.read_text())["recipes"]
    assert [f"--distortions={record['applied']}" for record in records] == applied


@pytest.mark.slow
def test_recipes_are_run_and_tabulated(benchmark, tmp_path):
    few = ("--recipes=tutorial", "--seeds=1", "--max_steps=2", "--batch_size=8")
    text, kept = benchmark("accuracy.recipes", *few, f"--out_dir={tmp_path / 'runs'}")
    [record] = kept["recipes"]
    assert (record["steps"], record["steps_of_the_recipe"]) == (2, 1_000_000)
    [result] = record["results"]
    assert result["parameters"] == 1_068_298
    assert 0 < result["precision"] < 1
    row = cells(text, "`--recipe=tutorial --max_steps=2 --batch_size=8`")
    assert row[:3] == ["1,068,298", "2", "1,000,000"]


@pytest.mark.parametrize(
    ("given", "command", "seeds"),
    [
        ("--recipes=tutorial", "--recipe=tutorial --max_steps=1000", 3),
        ("--recipes=tutorial --seeds=2", "--recipe=tutorial --max_steps=1000", 2),
        ("--recipes=tutorial --full", "--recipe=tutorial", 3),
        ("--recipes=vgg16_bn", "--recipe=vgg16_bn --max_steps=1955", 1),
        ("--recipes=vgg16_bn --max_steps=9", "--recipe=vgg16_bn --max_steps=9", 1),
        ("--recipes=resnet50", "--recipe=resnet18 --model=resnet50", 1),
        (
            "--recipes=tutorial --full --train_flags=--use_fp16",
            "--recipe=tutorial --use_fp16",
            3,
        ),
    ],
)
def test_recipes_are_shortened_unless_flags_say_otherwise(
    given, command, seeds, tmp_path, monkeypatch
):
    config = Config(train_dir=None)
    made = types.SimpleNamespace(config=config, data_source="", data_fingerprint="")
    monkeypatch.setattr(recipes, "read_run", lambda directory: made)
    # Saves a process, which the test of a real run starts.
    monkeypatch.setattr(recipes.machine, "isolated", lambda *_: "cpu: cpu")
    ran = []

    def train_and_evaluate(train_dir, flags):
        ran.append(" ".join(flags))
        evaluations = train_dir / "eval" / "test.jsonl"
        evaluations.parent.mkdir(parents=True)
        evaluations.write_text('{"step": 9, "precision_at_1": 0.5}\n')
        return {"precision": {"test": 0.5}, "train_seconds": 60, "parameters": 1}

    monkeypatch.setattr(recipes.runs, "train_and_evaluate", train_and_evaluate)
    arguments = [*given.split(), f"--out_dir={tmp_path}"]
    call(lambda: common.run(recipes.main, recipes.define_flags), *arguments)
    rest = "--dataset=cifar10 --data_dir="
    assert ran == [f"{command} --seed={seed} {rest}" for seed in range(seeds)]


@pytest.mark.slow
def test_sprints_are_timed_as_commands_and_as_programs(benchmark, tmp_path):
    # Not sprint: on digits, which are gray, its first steps amplify rounding.
    small = "--recipe=tutorial --max_steps=2 --batch_size=16 --views=center"
    text, kept = benchmark("accuracy.sprint", f"--runs={small}", "--seeds=1")
    [record] = kept["runs"]
    [result] = record["results"]
    assert 0 < result["accuracy"] < 1
    assert 0 < result["train_seconds"] < result["train_command_seconds"]
    assert cells(text, f"`{small}`")[:2] == ["1", f"{100 * result['accuracy']:.2f}%"]
    assert (tmp_path / "kept" / "sprint.png").stat().st_size > 10_000
    sizes = (f"--runs={small}", "--seeds=2")
    text, kept = benchmark("accuracy.sprint", *sizes, "--whole_runs")
    [record] = kept["runs"]
    assert record["name"] == small
    first, second = record["results"]
    assert (first["seed"], second["seed"]) == (0, 1)
    # The same run, up to rounding.
    assert first["accuracy"] == pytest.approx(result["accuracy"], abs=0.02)
    assert 0 < first["train_seconds"] < first["seconds_with_evaluation"]


@pytest.mark.slow
def test_train_step_times_ours_alone(benchmark):
    sizes = ("--batch_size=4", "--from_step=10", "--steps=10", "--rounds=1")
    text, kept = benchmark("speed.train_step", *sizes, "--programs=cifar_jax")
    [model] = kept["models"].values()
    [ours] = model["programs"]
    rates = ours["examples_per_sec"]
    assert len(rates["rounds"]) == len(model["matrix_products"]) == 1
    assert 0 < rates["min"] <= rates["median"] <= rates["max"]
    assert ours["ratios"] == {"cifar_jax": {"median": 1, "min": 1, "max": 1}}
    for peak in model["matrix_products"]:
        assert min(peak["float32"], peak["bfloat16"]) > 0
    assert ours["first_loss"] == pytest.approx(4.68, abs=0.1)
    assert 1e8 < ours["peak_bytes"] < 1e11
    assert model["left_out"] == {}
    assert model["over_pytorch"] is None
    assert kept["machine"]["cores"] >= 1
    printed = [speed(rates[name]) for name in ("min", "median", "max")]
    assert cells(text, "cifar_jax")[:3] == printed


@pytest.mark.slow
def test_train_step_times_another_network_every_few_steps(benchmark):
    pytest.importorskip("torch")
    steps = ("--log_frequency=2", "--from_step=2", "--steps=2", "--rounds=1")
    few = ("--models=cuda_convnet_18pct", "--programs=PyTorch", "--batch_size=2")
    text, kept = benchmark("speed.train_step", *steps, *few)
    record = kept["models"]["cuda_convnet_18pct"]
    ours, peer = record["programs"]
    assert (ours["name"], peer["name"]) == ("cifar_jax", "PyTorch")
    # Both start with small logits, and with the same penalty up to its noise.
    assert ours["first_loss"] == pytest.approx(peer["first_loss"], abs=0.05)
    assert record["over_pytorch"]["best"] == "PyTorch"
    assert record["over_pytorch"]["ratio"] == peer["ratios"]["cifar_jax"]
    assert cells(text, "cuda_convnet_18pct")[2] == "PyTorch"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("speed.train_step", "--programs=caffe", "'caffe'.*choose from .*'cifar"),
        ("speed.train_step", "--models=alexnet", "'alexnet'.*choose from .*tutori"),
        ("speed.evaluation", "--models=alexnet", "'alexnet'.*choose from .*'tutorial'"),
        ("speed.train_step", "--log_frequency=3", "multiples of --log_frequency"),
        ("speed.distortions", "--recipes=alexnet", "choose from tutorial, "),
        ("course.noise", "--checkpoint_dirs=a=x,y/a", "two runs are named 'a'"),
        (
            "accuracy.recipes",
            "--recipes=tutorial,x",
            "--recipe=x is unknown; choose from tut",
        ),
        (
            "accuracy.recipes",
            "--train_flags='x",
            "--train_flags='x: No closing quotation",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        call_experiment(name, arguments)
    assert exit_.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    assert re.search(f"^error: .*{message}", said)


def test_train_step_compares_with_the_fastest_peer_in_each_round():
    def ran(name, *rates):
        return Contender(name, [], examples_per_sec=list(rates))

    peers = [ran("PyTorch", 50.0, 10.0, 20.0), ran("PyTorch compile", 30.0, 25.0, 40.0)]
    others = [ran("cifar_jax", 60.0, 100.0, 20.0), ran("PyTorch bf16", 999.0, 999, 999)]
    found = over_pytorch([*others, *peers])
    assert found["best"] == "PyTorch compile"
    assert found["ratio"] == {"median": 2, "min": 0.5, "max": 4}
    assert over_pytorch(others) is None


@pytest.mark.slow
def test_evaluation_is_timed(benchmark):
    small = ("--models=cuda_convnet_18pct", "--images=6", "--batch_size=4")
    text, kept = benchmark("speed.evaluation", *small, "--rounds=2")
    record = kept["models"]["cuda_convnet_18pct"]
    assert record["left_out"] == {}
    assert all(len(values) == 2 for values in record["seconds"].values())
    assert min(record["seconds"]["cifar_jax"]) > 0
    assert cells(text, "cifar_jax")[1] == "1.00 (1.00-1.00)"


PARAMETERS = {
    "tutorial": 1_068_298,
    "resnet18": 11_173_962,
    "vgg16_bn": 14_724_042,
    "mobilenet": 3_217_226,
    "resnext29": 4_774_218,
    "cuda_convnet_18pct": 89_578,
    "cuda_convnet_11pct": 2_112_970,
    "airbench94_sgd": 1_971_640,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_peers_network_has_as_many_parameters(name, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(PEERS)
    networks = importlib.import_module("pytorch_networks")
    model = networks.NETWORKS[name]()
    count = sum(parameter.numel() for parameter in model.parameters())
    size = Config(**MODELS[name]).image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    variables = jax.eval_shape(create_model(name, 10).init, jax.random.key(0), images)
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == ours == PARAMETERS[name]


@pytest.mark.slow
def test_scaling_tries_every_batch_and_number_of_cores(benchmark, tmp_path):
    all_cores = len(os.sched_getaffinity(0))
    # Both tables contain the same case, so it is run only once.
    small = ("--images=40", "--batch_sizes=4", "--cores_batch_size=4")
    text, kept = benchmark("speed.scaling", *small, f"--cores={all_cores}")
    assert [case["batch_size"] for case in kept["batch_size"]] == [4]
    assert [case["cores"] for case in kept["cores"]] == [all_cores]
    for case in kept["batch_size"] + kept["cores"]:
        assert case["examples_per_sec"] > 0
        assert case["peak_bytes"] > 1e8
        step = case["batch_size"] / case["examples_per_sec"]
        assert case["seconds_per_step"] == pytest.approx(step)
    rate = kept["batch_size"][0]["examples_per_sec"]
    assert cells(text, "4")[0] == f"{rate:.0f}"
    assert (tmp_path / "kept" / "scaling.png").stat().st_size > 1000


@pytest.mark.slow
def test_startup_takes_a_cold_and_a_warm_start(benchmark):
    small = ("--rounds=1", "--batch_size=2", "--max_steps=1")
    text, kept = benchmark("speed.startup", *small)
    for name in ("cold", "warm"):
        [start] = kept["starts"][name]
        assert start["seconds"] > 0
        assert start["peak_bytes"] > 1e8
        assert cells(text, f"start, {name} cache")[1] == f"{start['seconds']:.2f}"
    assert kept["evaluation"]["images"] == 300
    assert min(kept["evaluation"]["seconds"]) > 0
    assert cells(text, "evaluation of 300 images")


@pytest.mark.slow
def test_modes_are_compared_in_speed_and_numbers(benchmark):
    text, kept = benchmark(
        "devices.data_parallel_modes",
        "--devices=1,2",
        "--modes=jit,pmap",
        "--batch_size=8",
    )
    cases = [(case["mode"], case["devices"]) for case in kept["cases"]]
    assert cases == [("jit", 1), ("pmap", 1), ("jit", 2), ("pmap", 2)]
    assert set(kept["cases"][0]["difference"].values()) == {0}
    for case in kept["cases"]:
        assert case["examples_per_sec"] > 0
        assert max(case["difference"].values()) < 1e-3
    assert "| mode |" in text


@pytest.mark.slow
def test_ways_to_make_many_runs_are_compared(benchmark):
    text, kept = benchmark(
        "devices.many_seeds", "--batch_size=8", "--rounds=1", "--steps=1"
    )
    case = kept["cases"]["tutorial"]
    assert set(case["seconds"]) == set(case["difference"]) == set(many_seeds.ways())
    for name, seconds in case["seconds"].items():
        assert [x > 0 for x in seconds] == [True]
        assert case["difference"][name] < 1e-4
    assert case["difference"]["threads"] == 0
    assert "1.00 (1.00-1.00)" in text


@pytest.mark.slow
def test_scaling_over_devices_is_measured_and_drawn(benchmark, tmp_path):
    sizes = ("--batch_size=8", "--batch_size_each=4", "--calls=1")
    _, kept = benchmark("devices.multi_device_scaling", "--devices=1,2", *sizes)
    assert [case["batch_size"] for case in kept["strong"]] == [8, 8]
    assert [case["batch_size"] for case in kept["weak"]] == [4, 8]
    for case in kept["strong"] + kept["weak"]:
        assert [seconds > 0 for seconds in case["seconds_per_step"]] == [True]
        assert len(case["seconds_without_collective"]) == (case["devices"] > 1)
    assert (tmp_path / "kept" / "multi_device_scaling.png").stat().st_size > 10_000


def test_the_cost_of_an_all_reduce_follows_the_network_size(tmp_path):
    path = tmp_path / "kept.json"
    text = call_experiment("devices.allreduce", "--devices=2", f"--json={path}")
    images = jax.ShapeDtypeStruct((1, 24, 24, 3), np.float32)
    variables = jax.eval_shape(create_model("tutorial").init, jax.random.key(0), images)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    cases = json.loads(path.read_text())["cases"]
    # Two devices exchange halves twice.
    assert cases[0]["sent_bytes"] == 4 * count
    assert cases[4]["all_reduce_seconds"] == pytest.approx(4 * count / 125e6)
    assert "tutorial, 1 Gb/s Ethernet" in text
