"""What JAX says of devices that there are not becomes a line."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from imgcls_jax import backend
from imgcls_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_a_platform_without_devices_is_said_in_a_line(platform, schedule, tmp_path):
    if platform == "cuda" and any(path.name.startswith("nvidia") for path in Path("/dev").iterdir()):
        pytest.skip("this machine has such a device")
    command = [sys.executable, "launch.py", "--config", "configs/quickstart.py", "--workdir", str(tmp_path / "run")]
    command += [f"--config.schedule.name={schedule}"]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert f"error: JAX finds no device of JAX_PLATFORMS={platform}: " in ended.stderr
    assert not (tmp_path / "run").exists()


def test_an_assertion_without_words_is_explained(monkeypatch):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ConfigError, match="there is none, or this jax was installed without it. Unset JAX_PLATFORMS"):
        backend.configure()
