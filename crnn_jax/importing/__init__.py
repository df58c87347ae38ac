"""Weights that other programs trained, as model files."""
