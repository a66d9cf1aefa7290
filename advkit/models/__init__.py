"""MODEL reference to module: networks with their normalisation inside, weights, folding, feature taps."""
