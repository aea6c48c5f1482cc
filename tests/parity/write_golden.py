"""Writes tests/models/golden/*.npz: outputs of torchvision and Keras for generated weights.

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
    classes = generated.GOLDEN_CLASSES
    shape = generated.GOLDEN_SHAPE
    for name in sys.argv[1:] or generated.CASES:
        arrays = generated.weights(generated.create(name, num_classes=classes))
        calibration = generated.images(16, *shape, seed=2)
        codes = generated.calibrate(name, arrays, calibration, num_classes=classes)
        arrays = generated.with_statistics(arrays, codes)
        x = generated.images(2, *shape)
        model = reference.build(name, arrays, num_classes=classes, shape=shape, dtype="float64")
        features, logits = reference.outputs(name, model, x)
        path = generated.GOLDEN / f"{name}.npz"
        np.savez_compressed(
            path,
            codes=codes,
            map=features.shape,
            names=generated.digest(reference.names(name, model)),
            features=generated.sample(features).astype(np.float32),
            logits=logits.astype(np.float32),
        )
        our_features, our_logits = generated.outputs(name, arrays, x, num_classes=classes)
        print(
            f"{name}: {path.stat().st_size / 1000:.1f} kB, "
            f"features off by {generated.difference(our_features, features):.1e}, "
            f"logits by {generated.difference(our_logits, logits):.1e}, "
            f"two images differ by {generated.apart(logits):.2f}"
        )


if __name__ == "__main__":
    main()
