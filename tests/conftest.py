import atexit
import gc
import os
import shutil
import signal
import tempfile

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several workers, and what they start, share the cores: threads of NumPy and torch would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Programs are compiled once for all tests, also by the processes that tests start. A folder that the
# environment names is kept, which saves a developer the compilation from one run to the next.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)


# With several workers each takes the next file: those that take longest come first, or one worker would
# be busy with such a file when the others have none left.
LONGEST_FILES = (
    "test_faults.py",
    "test_transfer.py",
    "test_launch.py",
    "test_kills.py",
    "test_processes.py",
    "test_studies.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """After each file: every program keeps some of the 65,530 memory maps that Linux gives to a process."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def _signals_are_left_as_they_were():
    """A handler that stays behind can end the process of the tests, later and without a word."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGPIPE"):
        signals.append(signal.SIGPIPE)
    before = [signal.getsignal(number) for number in signals]
    yield
    assert [signal.getsignal(number) for number in signals] == before
