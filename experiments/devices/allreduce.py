"""When does data parallelism stop paying off, in theory?

    python -m experiments.devices.allreduce --json=allreduce.json

In a ring all-reduce of G bytes among N devices, each device sends 2 (N - 1) / N * G
bytes over its link (Patarasuk and Yuan, Bandwidth Optimal All-reduce Algorithms for
Clusters of Workstations, 2009). This is compared with the step time: 3 times the FLOPs
of a forward pass (one forward, two backward) at an assumed device throughput. Nothing
is measured, and no overlap is modeled, although XLA can hide part of an all-reduce
behind the backward pass. Latency, which matters for small networks, is ignored.
"""

import dataclasses

from absl import flags

from experiments.harness import common, output

FLAGS = flags.FLAGS

BYTES_A_GRADIENT = 4  # float32


@dataclasses.dataclass(frozen=True)
class Network:
    """The size of a network's gradients and the cost of its forward pass."""

    name: str
    parameters: int
    gflop_forward: float  # per image; a multiply-add counts as two operations


# 13.4 GFLOP per training step of 128 images is 0.035 GFLOP per image in a forward pass.
# VGG16 needs 15.5 billion multiply-adds at 224x224: 9 x input channels x output
# channels x pixels for each convolution, plus the three dense layers. At 32x32 with one
# dense layer it needs 0.313 billion.
NETWORKS = (
    Network("tutorial", 1_068_298, 13.4 / 128 / 3),
    Network("VGG16, 224x224", 138_357_544, 2 * 15.47),
    Network("VGG16 with BatchNorm, 32x32", 14_728_266, 2 * 0.313),
)
# Nominal bytes per second in one direction.
LINKS = {
    "NVLink 4": 450e9,
    "PCIe 5 x16": 64e9,
    "100 Gb/s Ethernet": 12.5e9,
    "10 Gb/s Ethernet": 1.25e9,
    "1 Gb/s Ethernet": 0.125e9,
}


def sent_bytes(network: Network, devices: int) -> float:
    """Returns the bytes that each device sends in one step's all-reduce."""
    return 2 * (devices - 1) / devices * BYTES_A_GRADIENT * network.parameters


def step_seconds(network: Network, batch_size: int, flops: float) -> float:
    """Returns the duration of a step on one device, without the all-reduce."""
    return 3 * network.gflop_forward * 1e9 * batch_size / flops


def least_batch(network: Network, reduce_seconds: float) -> float:
    """Returns the fewest images per device that keep the all-reduce within --share."""
    seconds_per_image = step_seconds(network, 1, FLAGS.tflops * 1e12)
    return reduce_seconds * (1 - FLAGS.share) / FLAGS.share / seconds_per_image


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_integer("devices", 8, "Number of devices.", lower_bound=2)
    flags.DEFINE_integer(
        "batch_size", 128, "Images per device in a step.", lower_bound=1
    )
    flags.DEFINE_float("tflops", 20.0, "Throughput of a device, in TFLOP/s.")
    flags.DEFINE_float(
        "share", 0.1, "Largest acceptable share of the all-reduce in a step."
    )


def main(argv: list[str]) -> None:
    """Computes, prints and saves the costs."""
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
        f"{FLAGS.devices} devices at {FLAGS.tflops:g} TFLOP/s, {FLAGS.batch_size} "
        "images per device"
    )
    wanted = f"batch for {FLAGS.share:.0%}"
    columns = ["network, link", "sent", "step ms", "all-reduce ms", "share", wanted]
    print(output.table(columns, rows))
    flags_ = ("devices", "batch_size", "tflops", "share")
    output.keep({name: FLAGS[name].value for name in flags_} | {"cases": cases})


if __name__ == "__main__":
    common.run(main, define_flags)
