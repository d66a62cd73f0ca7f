"""Scores a model on datasets, by the protocols of the field."""
