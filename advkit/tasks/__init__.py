"""What a model is for: per-image losses, predictions, correctness, strata, packing of targets, metric."""
