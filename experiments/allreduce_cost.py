"""On paper: where does data parallelism stop paying?

    python -m experiments.allreduce_cost --json=allreduce.json

A ring all-reduce of G bytes among N devices sends 2 (N - 1) / N * G over each link
(Patarasuk and Yuan, Bandwidth Optimal All-reduce Algorithms for Clusters of
Workstations, 2009). Beside it stands the time of a step: 3 times the products of a
forward pass (one forward, two backward), at the rate a device is assumed to reach.
Nothing is measured here, and nothing overlaps: XLA can hide part of an all-reduce
behind the backward pass, and latency, which counts for small networks, is left out.
"""

import dataclasses

from absl import flags

from experiments import common

FLAGS = flags.FLAGS

BYTES_A_GRADIENT = 4  # float32


@dataclasses.dataclass(frozen=True)
class Network:
    """What counts of a network: its gradients, and the products of an image."""

    name: str
    parameters: int
    gflop_forward: float  # two operations a product


# 13.4 GFLOP a training step of 128 images is 0.035 a forward pass of one. VGG16's
# 15.5 thousand million products at 224x224 are those of its layers: 9 x channels in x
# channels out x pixels, and the three dense ones; 0.313 at 32x32 with one dense layer.
NETWORKS = (
    Network("tutorial", 1_068_298, 13.4 / 128 / 3),
    Network("VGG16, 224x224", 138_357_544, 2 * 15.47),
    Network("VGG16 with BatchNorm, 32x32", 14_728_266, 2 * 0.313),
)
# Bytes a second in one direction, as the makers state them.
LINKS = {
    "NVLink 4": 450e9,
    "PCIe 5 x16": 64e9,
    "100 Gb/s Ethernet": 12.5e9,
    "10 Gb/s Ethernet": 1.25e9,
    "1 Gb/s Ethernet": 0.125e9,
}


def sent_bytes(network: Network, devices: int) -> float:
    """Bytes that each device sends in the all-reduce of a step."""
    return 2 * (devices - 1) / devices * BYTES_A_GRADIENT * network.parameters


def step_seconds(network: Network, batch_size: int, flops: float) -> float:
    """Of a device's share of a step, the all-reduce apart."""
    return 3 * network.gflop_forward * 1e9 * batch_size / flops


def least_batch(network: Network, reduce_seconds: float) -> float:
    """Images a device needs for the all-reduce to take no more than --share."""
    an_image = step_seconds(network, 1, FLAGS.tflops * 1e12)
    return reduce_seconds * (1 - FLAGS.share) / FLAGS.share / an_image


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("devices", 8, "N.", lower_bound=2)
    flags.DEFINE_integer(
        "batch_size", 128, "Images a device has in a step.", lower_bound=1
    )
    flags.DEFINE_float("tflops", 20.0, "10^12 operations/s that a device reaches.")
    flags.DEFINE_float("share", 0.1, "The share of a step that an all-reduce may take.")


def main(argv: list[str]) -> None:
    """Calculates, prints and keeps."""
    del argv
    rows, cases = [], []
    for network in NETWORKS:
        step = step_seconds(network, FLAGS.batch_size, FLAGS.tflops * 1e12)
        sent = sent_bytes(network, FLAGS.devices)
        for link, bandwidth in LINKS.items():
            reduce = sent / bandwidth
            case = {
                "network": network.name,
                "link": link,
                "sent_bytes": sent,
                "step_seconds": step,
                "all_reduce_seconds": reduce,
                "share": reduce / (reduce + step),
                "least_batch": least_batch(network, reduce),
            }
            cases.append(case)
            rows.append(
                [
                    f"{network.name}, {link}",
                    f"{sent / 1e6:.1f} MB",
                    f"{step * 1e3:.2f}",
                    f"{reduce * 1e3:.2f}",
                    f"{case['share']:.0%}",
                    f"{case['least_batch']:.0f}",
                ]
            )
    print(
        f"{FLAGS.devices} devices of {FLAGS.tflops:g} TFLOP/s, {FLAGS.batch_size} "
        "images on each"
    )
    wanted = f"batch for {FLAGS.share:.0%}"
    columns = ["network, link", "sent", "step ms", "all-reduce ms", "share", wanted]
    print(common.table(columns, rows))
    flags_ = ("devices", "batch_size", "tflops", "share")
    common.keep({name: FLAGS[name].value for name in flags_} | {"cases": cases})


if __name__ == "__main__":
    common.run(main, define_flags)
