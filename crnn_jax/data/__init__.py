"""Annotation files, folders and other sources -> index -> plan -> batches. No JAX in here."""
