"""Figures fit for a paper: heat maps of rates, attention of several models on the same images."""
