"""Architectures as data: what evolution changes, in a canonical form, and the network that it stands for."""
