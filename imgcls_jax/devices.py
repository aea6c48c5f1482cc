"""Kinds of devices: how fast they are, and how much memory they have, as their makers say."""

import dataclasses

GIGA = 1e9
MEMORY_SHARE = 0.75  # of a GPU's memory, which JAX takes at its start


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device.

    name: as it is in JAX's name of the device. flops: of dense products, FLOP/s by precision.
    bandwidth: of its memory, bytes/s. memory: bytes that JAX can use.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    memory: float


# Two cores of an AMD EPYC (Zen 4): 32 float32 operations a clock at 3.5 GHz, their share of the
# memory's bandwidth, and 8 GB.
CPU = Device("EPYC", {"bfloat16": 224e9, "float32": 224e9}, 25e9, 8 * GIGA)
# The SXM modules, from NVIDIA's data sheets. float32 is TF32, which convolutions use.
DEVICES = {
    "h100": Device(
        "H100", {"bfloat16": 989e12, "float32": 495e12}, 3.35e12, MEMORY_SHARE * 80 * GIGA
    ),
    "h200": Device(
        "H200", {"bfloat16": 989e12, "float32": 495e12}, 4.8e12, MEMORY_SHARE * 141 * GIGA
    ),
    "a100": Device(
        "A100", {"bfloat16": 312e12, "float32": 156e12}, 2.04e12, MEMORY_SHARE * 80 * GIGA
    ),
    "v100": Device("V100", {"float32": 15.7e12}, 0.9e12, MEMORY_SHARE * 32 * GIGA),
    "2xcpu": CPU,
}
