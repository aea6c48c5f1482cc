"""Writes tests/models/golden/*.npz anew: what torchvision and Keras answer for generated weights and images.

python tests/parity/write_golden.py
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/models")]

import generated  # noqa: E402
import reference  # noqa: E402


def main() -> None:
    classes, shape = generated.GOLDEN_CLASSES, generated.GOLDEN_SHAPE
    for name in sys.argv[1:] or generated.CASES:
        arrays = generated.weights(generated.create(name, num_classes=classes))
        codes = generated.calibrate(
            name, arrays, generated.images(16, *shape, seed=2), num_classes=classes
        )
        arrays = generated.with_statistics(arrays, codes)
        x = generated.images(2, *shape)
        model = reference.build(name, arrays, num_classes=classes, shape=shape, dtype="float64")
        features, logits = reference.outputs(name, model, x)
        ours = generated.outputs(name, arrays, x, num_classes=classes)
        path = generated.GOLDEN / f"{name}.npz"
        golden = {"features": generated.sample(features), "logits": logits}
        golden = {key: array.astype(np.float32) for key, array in golden.items()}
        names = generated.digest(reference.names(name, model))
        np.savez_compressed(path, codes=codes, map=features.shape, names=names, **golden)
        print(
            f"{name}: {path.stat().st_size / 1000:.1f} kB, "
            f"features off by {generated.difference(ours[0], features):.1e}, "
            f"logits by {generated.difference(ours[1], logits):.1e}, "
            f"two images differ by {generated.apart(logits):.2f}"
        )


if __name__ == "__main__":
    main()
