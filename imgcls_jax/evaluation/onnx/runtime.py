"""ONNX models in ONNX Runtime, on CPUs."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from imgcls_jax.data.lazy_images import Images
from imgcls_jax.evaluation.onnx.graph import IMAGES, LOGITS

BATCH_SIZE = 32  # images that a model gets at a time
MIN_SECONDS = 1.0  # that a measurement of speed takes
CPU = ["CPUExecutionProvider"]


class OnnxClassifier:
    """An ONNX model of images uint8 [N, H, W, C], from its bytes."""

    def __init__(self, model: bytes):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads()
        self._session = onnxruntime.InferenceSession(model, options, providers=CPU)

    def logits(self, images: Images) -> np.ndarray:
        """Returns logits float32 [N, K] of images uint8 [N, H, W, C]."""
        batches = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = images[start : start + BATCH_SIZE]
            (logits,) = self._session.run([LOGITS], {IMAGES: batch})
            batches.append(logits)
        return np.concatenate(batches)


def num_threads() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def images_per_second(logits: Callable, images: np.ndarray) -> float:
    """Returns how many of the images a function takes in a second.

    They are a batch that is repeated for MIN_SECONDS, after a first call that is not counted. The
    fastest repetition counts, since other programs disturb the others.
    """
    logits(images)
    fastest = float("inf")
    start = time.perf_counter()
    while time.perf_counter() - start < MIN_SECONDS:
        before = time.perf_counter()
        logits(images)
        fastest = min(fastest, time.perf_counter() - before)
    return len(images) / fastest


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model as ONNX Runtime rewrites it for any device.

    BatchNorm's factors are then part of the kernels, and transpositions that cancel are gone.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU)
        simplified = onnx.load(path)
    # It imports all sets of operators that ONNX Runtime has, and uses the standard one alone.
    del simplified.opset_import[:]
    simplified.opset_import.extend(model.opset_import)
    onnx.checker.check_model(simplified)
    return simplified
