"""The same steps by pmap and by shard_map, on several numbers of devices, to the same bits."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import jax, numpy as np

jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
sys.path[:0] = ["tests/training", "."]
from quadrants import quadrants
from configs import base
from imgcls_jax import trees
from imgcls_jax.data import Splits
from imgcls_jax.data.batches import epoch_batches
from imgcls_jax.training import inputs, metrics, parallel, setup

data = Splits(train=quadrants(200, 0), validation=quadrants(60, 1), test=quadrants(60, 2), report={})
digests, losses = {}, {}
for backend in parallel.BACKENDS:
    config = base.get_config()
    one_stage = {"blocks": (1,), "kernels": (3,), "shortcut_kernels": (1,)}
    config.model = {"name": "resnet20", **one_stage}
    config.train.update(epochs=1, batch_size=40, eval_batch_size=40, parallel=backend)
    config.data.transform = "random_crop(1)|mixup(1.)"
    (built,) = setup.build(config, data)
    assert jax.device_count() == int(sys.argv[1])
    state = parallel.replicate(built.drawn_state(), to_donate=True)
    batches = epoch_batches(200, 40, seed=0, epoch=0)
    feed = inputs.Feed(inputs.place(data.train), batches, most=5)
    state, stacked = built.train(state, *feed.take(feed.ready()))
    logits = built.predict(state.variables, inputs.place_images(data.test.images))
    digests[backend] = trees.digest(parallel.fetch(state)), trees.digest(logits)
    losses[backend] = metrics.totals(stacked, 5)["loss"]
assert digests["pmap"] == digests["shard_map"], digests
assert np.array_equal(losses["pmap"], losses["shard_map"])
print(*losses["pmap"])
"""


@pytest.fixture(scope="module")
def losses():
    by_devices = {}
    for num_devices in (1, 2, 8):
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(num_devices)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr[-3000:]
        by_devices[num_devices] = [float(word) for word in process.stdout.split()[-5:]]
    return by_devices


def test_pmap_and_shard_map_give_the_same_bits_on_1_2_and_8_devices(losses):
    assert set(losses) == {1, 2, 8}  # the script compares them


def test_the_number_of_devices_changes_losses_by_rounding_only(losses):
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert losses[8] == pytest.approx(losses[1], rel=1e-4)
