"""A run's best model as ONNX, in float32 and in int8. Only these names need no package onnx."""

MODEL = "model.onnx"
INT8_MODEL = "model.int8.onnx"
PAGE = "try.html"  # with MODEL in it; reporting.browser_page writes it
FIGURES = "onnx.json"  # how the two compare with the run
