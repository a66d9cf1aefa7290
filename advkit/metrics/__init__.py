"""Metrics: accuracy, calibration, intervals, paired tests, norms, similarity of gradients."""
