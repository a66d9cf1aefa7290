"""Unsupervised adaptation to another domain: methods, what they see of the target, and which epoch is kept."""
