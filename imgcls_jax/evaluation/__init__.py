"""Evaluation: predictions, scores, calibration, explanations, ensembles and export."""
