"""Metrics: accuracy, calibration, intervals, paired tests."""
