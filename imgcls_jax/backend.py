"""JAX's backend: sets it up before it starts, and describes what it is."""

import contextlib
import importlib.metadata
import logging
import os
import platform
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

# Two defaults of XLA's CPU backend make training slower: its YNNPACK convolutions in the gradient
# of the kernel, and a pass that removes the barriers which cpu_kernels.py sets. JAX 0.12 does not
# compile depthwise convolutions without that pass. An unknown flag aborts the process, so flags are
# set only for versions of jax on which they were tried.
OWN_CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
KEPT_BARRIERS = "--xla_disable_hlo_passes=cse_barrier_expander"
CPU_FLAGS = {  # by the versions of jax
    "0.10.": (OWN_CONVOLUTIONS, KEPT_BARRIERS),
    "0.11.": (OWN_CONVOLUTIONS, KEPT_BARRIERS),
    "0.12.": (OWN_CONVOLUTIONS,),
}


def configure(*, cpu_devices: int = 1) -> None:
    """Sets XLA's flags for CPUs and the compilation cache. Call it before JAX's first computation.

    cpu_devices: the number of virtual devices of the CPU, if JAX runs on it. $JAX_NUM_CPU_DEVICES
    and flags in $XLA_FLAGS have precedence. $JAX_COMPILATION_CACHE_DIR moves the cache; if it is
    empty there is none. Raises ConfigError if JAX has no device of the requested kind, and if the
    cache is no folder.
    """
    if cpu_devices > 1 and "JAX_NUM_CPU_DEVICES" not in os.environ:
        # It can no longer be changed once the backend has started.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cpu_devices)
    flags = _flags_tried()
    if flags:
        _add_cpu_flags(flags)
    _set_compilation_cache()
    _check_devices()
    if 1 < cpu_devices != jax.local_device_count() and jax.default_backend() == "cpu":
        log.warning(
            "train.cpu_devices is %d, and JAX has %d: it was started before, or JAX_NUM_CPU_DEVICES "
            "says so.",
            cpu_devices,
            jax.local_device_count(),
        )
    if not flags and jax.default_backend() == "cpu":
        log.info(
            "XLA's flags for CPUs were not tried on JAX %s: it runs without them, perhaps slower.",
            jax.__version__,
        )


def _flags_tried() -> tuple[str, ...]:
    """Returns XLA's flags for CPUs that were tried on this version of jax, if any were."""
    for versions, flags in CPU_FLAGS.items():
        if jax.__version__.startswith(versions):
            return flags
    return ()


def _add_cpu_flags(flags: tuple[str, ...]) -> None:
    environment = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in flags if flag.split("=")[0] not in environment]
    os.environ["XLA_FLAGS"] = " ".join([environment, *missing]).strip()


def _set_compilation_cache() -> None:
    default = Path("~/.cache/imgcls_jax/compiled").expanduser()
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default))
    if Path(folder).is_file():  # JAX would compile each time, without a word
        raise ConfigError(
            f"JAX_COMPILATION_CACHE_DIR={folder} is a file: give a folder for compiled programs, or "
            "an empty text to keep none."
        )
    jax.config.update("jax_compilation_cache_dir", folder or None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _check_devices() -> None:
    """Raises ConfigError if JAX has no device of the kind that JAX_PLATFORMS asks for."""
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if not reason:
            reason = "there is none, or this jax was installed without it"
        raise ConfigError(
            f"JAX finds no device of JAX_PLATFORMS={jax.config.jax_platforms}: {reason}. Unset "
            "JAX_PLATFORMS to use the devices that there are. NVIDIA's GPUs need requirements.txt."
        ) from error


def describe() -> dict[str, Any]:
    """Returns device, versions, commit and command of this process, ready for JSON."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        device_name = _cpu_name()
    else:
        device_name = device.device_kind
    return {
        "command": console.command_line(),
        "device": device_name,
        "platform": device.platform,
        "device_count": jax.device_count(),
        "processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": _versions(),
        "commit": _commit(),
    }


def peak_memory() -> int:
    """Returns the peak memory in bytes: of the first device if it counts it, as GPUs do.

    On other devices it is that of this process.
    """
    statistics = jax.devices()[0].memory_stats() or {}
    if statistics.get("peak_bytes_in_use"):
        return statistics["peak_bytes_in_use"]
    return _peak_resident()


def _peak_resident() -> int:
    """Returns the most memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:
        return _peak_working_set()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return resident
    return 1024 * resident  # Linux counts kilobytes


def _peak_working_set() -> int:
    """Returns the most memory of this process so far, as Windows counts it.

    psutil knows no peak elsewhere: there it is the memory of now.
    """
    import psutil

    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def _versions() -> dict[str, str]:
    """Returns the versions of those of PACKAGES that are installed."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
        return platform.machine()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Returns the commit of this checkout, marked if files differ from it; None outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    if changes:
        return f"{commit}+changes"
    return commit


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    command = ["git", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()
