"""MODEL reference to network, its normalisation inside."""
