"""Devices that do not exist are an error of one line, and XLA's flags fit JAX's version."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from limits import HANGS

from imgcls_jax import backend
from imgcls_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_a_platform_without_devices_is_an_error_of_one_line(platform, schedule, tmp_path):
    if platform == "cuda" and list(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has such a device")
    command = [sys.executable, "launch.py", "--config", "configs/quickstart.py"]
    command += ["--workdir", str(tmp_path / "run"), f"--config.schedule.name={schedule}"]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANGS
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert f"error: JAX finds no device of JAX_PLATFORMS={platform}: " in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_assertion_without_words_is_explained(monkeypatch):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(
        ConfigError,
        match="there is none, or this jax was installed without it. Unset JAX_PLATFORMS",
    ):
        backend.configure()


@pytest.mark.parametrize("version, lines", [("0.12.1", 0), ("0.13.0", 1)])
def test_a_version_on_which_the_flags_were_not_tried_is_named(version, lines, monkeypatch, caplog):
    monkeypatch.setattr(jax, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", "")
    with caplog.at_level("INFO"):
        backend.configure()
    messages = [line for line in caplog.messages if "were not tried on JAX 0.13.0" in line]
    assert len(messages) == lines
    assert ("ynn_fusion" in os.environ["XLA_FLAGS"]) == (not lines)


def test_virtual_devices_that_there_are_not_are_named(caplog):
    backend.configure(cpu_devices=jax.local_device_count() + 1)
    assert f"train.cpu_devices is {jax.local_device_count() + 1}, and JAX has" in caplog.text
    caplog.clear()
    backend.configure(cpu_devices=jax.local_device_count())
    assert "cpu_devices" not in caplog.text


def test_a_cache_that_is_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"cache is a file: give a folder"):
        backend.configure()


@pytest.mark.parametrize("version, kept", [("0.10.2", True), ("0.12.0.1", False)])
def test_barriers_are_kept_where_depthwise_convolutions_compile_with_them(
    version, kept, monkeypatch
):
    monkeypatch.setattr(jax, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", "")
    backend.configure()
    assert ("cse_barrier_expander" in os.environ["XLA_FLAGS"]) == kept


TRAINED = """
import jax, jax.numpy as jnp
from imgcls_jax import backend
backend.configure()
from imgcls_jax.models import cpu_windows

def loss(x, w):
    y = cpu_windows.depthwise_convolve(x, w, (1, 1), ((1, 1), (1, 1)))
    return jnp.sum(jnp.clip(y - y.mean((0, 1, 2)), 0, 6) ** 2)

x, w = jnp.ones((4, 4, 4, 8)), jnp.ones((3, 3, 1, 8))
print(*[gradient.shape for gradient in jax.jit(jax.grad(loss, (0, 1)))(x, w)])
"""


def test_a_depthwise_convolution_trains_with_the_flags_of_this_version():
    """In a process of its own: those of other tests have other flags."""
    run = subprocess.run(
        [sys.executable, "-c", TRAINED], cwd=ROOT, capture_output=True, text=True, timeout=HANGS
    )
    assert run.stdout == "(4, 4, 4, 8) (3, 3, 1, 8)\n", run.stderr[-2000:]
