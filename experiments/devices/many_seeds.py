"""Do runs with different seeds gain from being made side by side?

    python -m experiments.devices.many_seeds --data_dir=DIR --json=many_seeds.json

Takes the same training steps of several runs in each of these ways, in turns:

- one after another on one device, which the others are compared with;
- one after another, with each batch divided among as many devices as there are seeds;
- threads: a thread for each seed, each with a device of its own;
- shard_map: one program for all devices, each with a seed of its own;
- threads on one device, which all seeds share;
- vmap: one program for all seeds on one device.

Without GPUs, the devices are fake and share the machine's cores. With fewer devices
than seeds, the ways that need more are left out. Takes about 2 minutes on 2 cores with
the defaults.
"""

import concurrent.futures
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from experiments.harness import common, machine, output

# The way that the others are compared with, and those that need a device per seed.
FIRST = "one after another"
SEVERAL = {"each on all devices", "threads", "shard_map"}

FLAGS = flags.FLAGS


def measure(
    model: str,
    batch_size: int,
    seeds: int,
    rounds: int,
    steps: int,
    dataset: str,
    data_dir: str,
) -> dict[str, Any]:
    """Returns the seconds of each way and round; runs in `machine.isolated`."""
    import jax

    from cifar_jax import Config, build_program, load_data

    data = load_data(dataset, data_dir or None)
    config = Config(model=model, batch_size=batch_size, train_dir=None)
    program = build_program(config, len(data.class_names))
    compile_seconds, runs = {}, {}
    for name, compile_way in ways().items():
        if name in SEVERAL and jax.device_count() < seeds:
            continue
        began = time.perf_counter()
        runs[name] = compile_way(program, data, batch_size, seeds)
        runs[name](0, 1)
        compile_seconds[name] = time.perf_counter() - began
        print(f"{name}: compiled in {compile_seconds[name]:.1f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for number in range(rounds):
        first = 1 + number * steps
        for name, take in runs.items():
            began = time.perf_counter()
            results[name] = jax.block_until_ready(take(first, first + steps))
            seconds[name].append(time.perf_counter() - began)
    return {
        "compile_seconds": compile_seconds,
        "seconds": seconds,
        "difference": {
            name: difference(found, results[FIRST]) for name, found in results.items()
        },
    }


def difference(found: list[Any], expected: list[Any]) -> float:
    """Returns the largest relative norm of the difference between params, by seed."""
    import optax

    return max(
        float(
            optax.tree.norm(optax.tree.sub(as_numpy(a), as_numpy(b)))
            / optax.tree.norm(as_numpy(b))
        )
        for a, b in zip(found, expected, strict=True)
    )


def as_numpy(params: Any) -> Any:
    """Returns params without their devices."""
    import jax

    return jax.tree.map(np.asarray, params)


# A way is compiled for a program, data, a batch size and a number of seeds. The result
# takes steps from the first to the end, and returns the params of each seed.
Take = Callable[[int, int], list[Any]]


def ways() -> dict[str, Callable[..., Take]]:
    """Returns the ways by name."""
    return {
        FIRST: functools.partial(separate, each=1, threads=1),
        "each on all devices": functools.partial(separate, each=None, threads=1),
        "threads": functools.partial(separate, each=1, threads=None, spread=True),
        "shard_map": functools.partial(together, mapped=sharded),
        "threads on one device": functools.partial(separate, each=1, threads=None),
        "vmap": functools.partial(together, mapped=vmapped),
    }


def separate(
    program: Any,
    data: Any,
    batch_size: int,
    seeds: int,
    each: int | None,
    threads: int | None,
    spread: bool = False,
) -> Take:
    """Returns a function that takes the steps of each seed by a program of its own.

    Args:
        program: what is trained.
        data: the data set.
        batch_size: images in a batch.
        seeds: the number of seeds.
        each: the number of devices of each run; None: as many as seeds.
        threads: how many runs are made at a time; None: all.
        spread: whether the runs have different devices.
    """
    import jax
    from jax.sharding import Mesh

    from cifar_jax.devices import sharding
    from cifar_jax.devices.strategies import Jit
    from cifar_jax.training import initial
    from cifar_jax.training.compiled import CompiledSteps

    devices, runs = jax.devices(), []
    for seed in range(seeds):
        start = seed if spread else 0
        mesh = Mesh(np.array(devices[start : start + (each or seeds)]), sharding.AXIS)
        state = initial.create(program, seed, data.train.images, mesh)
        steps = CompiledSteps(program, data.train, batch_size, state, 100, Jit(mesh))
        runs.append([steps, state])
    pool = concurrent.futures.ThreadPoolExecutor(threads or seeds)

    def take(first: int, end: int) -> list[Any]:
        def one(run: list[Any]) -> Any:
            steps, state = run
            run[1], metrics = steps.train_steps(state, first, end)
            jax.block_until_ready(metrics)
            return run[1].params

        return list(pool.map(one, runs))

    return take


def together(
    program: Any,
    data: Any,
    batch_size: int,
    seeds: int,
    mapped: Callable[[Callable[..., Any], int], Any],
) -> Take:
    """Returns a function that takes the steps of all seeds by one program."""
    import jax
    import jax.numpy as jnp

    from cifar_jax import compiler_options
    from cifar_jax.data.batches import BatchOrder
    from cifar_jax.devices import sharding
    from cifar_jax.training import initial, train_state
    from cifar_jax.training.compiled import take_steps

    mesh, train = sharding.create_mesh(1), data.train
    states = [initial.create(program, s, train.images, mesh) for s in range(seeds)]
    keys = [train_state.streams(state.key).order for state in states]
    orders = [BatchOrder(key, len(train), batch_size) for key in keys]
    arrays = (train.images, train.labels, dict(train.extra))
    looped = jax.default_backend() != "cpu"
    wrapped, place = mapped(functools.partial(take_steps, program, looped), seeds)
    stacked, arrays = place(jax.tree.map(lambda *x: jnp.stack(x), *states), arrays)

    def batches(step: int) -> Any:
        each = [order(step) for order in orders]
        return jax.tree.map(lambda *x: np.stack(x)[:, None], *each)

    lowered = wrapped.lower(stacked, arrays, batches(0), 1)
    compiled, now = lowered.compile(compiler_options()), [stacked]

    def take(first: int, end: int) -> list[Any]:
        for step in range(first, end):
            now[0], metrics = compiled(now[0], arrays, batches(step), 1)
            jax.block_until_ready(metrics)
        return [jax.tree.map(lambda x, s=s: x[s], now[0].params) for s in range(seeds)]

    return take


def sharded(function: Callable[..., Any], seeds: int) -> Any:
    """Returns the function with a device for each seed, and what places arguments."""
    import jax
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = Mesh(np.array(jax.devices()[:seeds]), "seeds")

    def own(state: Any, data: Any, batches: Any, count: Any) -> Any:
        first = functools.partial(jax.tree.map, lambda x: x[0])
        result = function(first(state), data, first(batches), count)
        return jax.tree.map(lambda x: x[None], result)

    def place(states: Any, data: Any) -> Any:
        by_seed, whole = NamedSharding(mesh, P("seeds")), NamedSharding(mesh, P())
        return jax.device_put(states, by_seed), jax.device_put(data, whole)

    specs = P("seeds"), P(), P("seeds"), P()
    every = jax.shard_map(
        own, mesh=mesh, in_specs=specs, out_specs=P("seeds"), check_vma=False
    )
    return jax.jit(every, donate_argnums=0), place


def vmapped(function: Callable[..., Any], seeds: int) -> Any:
    """Returns the function with an additional axis of seeds on one device."""
    import jax

    del seeds
    every = jax.vmap(function, (0, None, 0, None))
    return jax.jit(every, donate_argnums=0), lambda *x: jax.device_put(x)


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_list("models", ["tutorial"], "Networks.")
    flags.DEFINE_integer("batch_size", 128, "Images in a batch.", lower_bound=1)
    flags.DEFINE_integer("seeds", 2, "Number of seeds.", lower_bound=2)
    flags.DEFINE_integer("rounds", 7, "Timings of each way.", lower_bound=1)
    flags.DEFINE_integer("steps", 10, "Steps of each seed per timing.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures, prints and saves the results."""
    del argv
    facts = machine.machine() | {"device": machine.isolated(machine.device)}
    print(output.describe(facts), flush=True)
    fake = f"--xla_force_host_platform_device_count={FLAGS.seeds}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fake}"
    sizes = FLAGS.batch_size, FLAGS.seeds, FLAGS.rounds, FLAGS.steps
    cases = {
        model: machine.isolated(measure, model, *sizes, FLAGS.dataset, FLAGS.data_dir)
        for model in FLAGS.models
    }
    print(table(cases))
    output.keep({"machine": facts, "cases": cases})


def table(cases: dict[str, Any]) -> str:
    """Returns one row for each network and way."""
    rows = []
    for model, case in cases.items():
        for name, seconds in case["seconds"].items():
            ratios = np.divide(case["seconds"][FIRST], seconds)
            each = 1e3 * np.median(seconds) / (FLAGS.steps * FLAGS.seeds)
            spread = f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})"
            rows.append(
                [
                    *(model, name, f"{each:.1f}", spread),
                    f"{case['compile_seconds'][name]:.0f}",
                    f"{case['difference'][name]:.0e}",
                ]
            )
    heads = ["network", "way", "ms/step", "speed", "compilation s", "difference"]
    return output.table(heads, rows)


if __name__ == "__main__":
    common.run(main, define_flags)
