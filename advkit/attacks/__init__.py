"""Adversarial examples: pure functions from networks, images and labels to images inside a budget."""
