"""Static quantization of an ONNX model to int8, by ONNX Runtime.

The ranges of the activations are those on validation images; each channel of a kernel has its own
scale (Jacob et al., 2018, arXiv:1712.05877).
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import quant_utils

from imgcls_jax.evaluation.onnx.graph import IMAGES
from imgcls_jax.evaluation.onnx.runtime import BATCH_SIZE

# What the ranges are found for. All else, as the gates of an LSTM and softmax, stays float32.
OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Relu", "Clip")


def quantize(
    model: onnx.ModelProto,
    images: np.ndarray,
    *,
    float_scope: str,
) -> bytes:
    """Returns the model with int8 kernels and uint8 activations.

    images: uint8 [N, H, W, C], all of which are used. float_scope: nodes whose names begin with it
    stay float32.
    """
    calibrated = onnx.ModelProto()
    calibrated.CopyFrom(model)
    quant_utils.add_pre_process_metadata(calibrated)  # or it advises to do what simplify has done
    names = [node.name for node in model.graph.node]
    excluded = [name for name in names if name.startswith(float_scope)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            calibrated,
            path,
            _Batches(images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=excluded,
            per_channel=True,
            # Seven bits: with eight, CPUs without VNNI overflow.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return path.read_bytes()


class _Batches(quantization.CalibrationDataReader):
    """Hands images to the calibration in batches."""

    def __init__(self, images: np.ndarray):
        self._images = images
        self._starts = iter(range(0, len(images), BATCH_SIZE))

    def get_next(self) -> dict[str, np.ndarray] | None:
        start = next(self._starts, None)
        if start is None:
            return None
        return {IMAGES: self._images[start : start + BATCH_SIZE]}
