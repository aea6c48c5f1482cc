"""JAX's backend: how it is set up before it starts, and what it turned out to be."""

import contextlib
import importlib.metadata
import logging
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from imgcls_jax import console
from imgcls_jax.errors import ConfigError

log = logging.getLogger(__name__)

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "clu",
    "ml-collections",
    "numpy",
    "imgcls_jax",
)

# XLA's CPU backend has two habits that cost more than they gain here: its YNNPACK convolutions are slower for the
# gradient of the kernel, and that pass undoes the barrier that cpu_kernels.py sets. An unknown flag aborts the process:
# so they are set only for the versions of jax on which they were tried.
CPU_FLAGS = (
    "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution",
    "--xla_disable_hlo_passes=cse_barrier_expander",
)
TRIED_VERSIONS = ("0.10.", "0.11.", "0.12.")


def configure(*, cpu_devices: int = 1) -> None:
    """Sets XLA's flags for CPUs and the cache of compiled programs; to be called before JAX' first computation.

    cpu_devices: into how many virtual devices the CPU is split, where it is what JAX runs on. $JAX_NUM_CPU_DEVICES and
    flags in $XLA_FLAGS win over ours; $JAX_COMPILATION_CACHE_DIR moves the cache, and is switched off by being empty.
    """
    if cpu_devices > 1 and "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(
            RuntimeError
        ):  # the backend has started: its devices are what they are
            jax.config.update("jax_num_cpu_devices", cpu_devices)
    given = os.environ.get("XLA_FLAGS", "")
    tried = jax.__version__.startswith(TRIED_VERSIONS)
    if tried:
        ours = [flag for flag in CPU_FLAGS if flag.split("=")[0] not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()
    default = Path("~/.cache/imgcls_jax/compiled").expanduser()
    jax.config.update(
        "jax_compilation_cache_dir",
        os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default)) or None,
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _check_devices()
    if not tried and jax.default_backend() == "cpu":
        log.info(
            "JAX %s is a version on which XLA's flags for CPUs were not tried: it runs without them, perhaps slower.",
            jax.__version__,
        )


def _check_devices() -> None:
    """Raises ConfigError where JAX has no device of the kind it was told to take."""
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        asked = jax.config.jax_platforms
        reason = (
            " ".join(str(error).split()) or "there is none, or this jax was installed without it"
        )
        raise ConfigError(
            f"JAX finds no device of JAX_PLATFORMS={asked}: {reason}. Unset JAX_PLATFORMS to take what there is; for "
            "NVIDIA's GPUs install requirements.txt."
        ) from error


def describe() -> dict[str, Any]:
    """Devices, versions, commit and command of this process, JSON-ready."""
    device = jax.devices()[0]
    return {
        "command": console.command_line(),
        "device": _cpu_name() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "device_count": jax.device_count(),
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def peak_memory() -> int:
    """Bytes: the most that was in use on the first device, where it counts them, as GPUs do; else by this process."""
    figures = jax.devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures.get("peak_bytes_in_use") or resident * (1 if sys.platform == "darwin" else 1024)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        run = lambda *command: subprocess.run(  # noqa: E731
            ["git", *command], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        return run("rev-parse", "HEAD") + (
            "+changes" if run("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
