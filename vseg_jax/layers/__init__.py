"""Layers and array operations that several models share."""
