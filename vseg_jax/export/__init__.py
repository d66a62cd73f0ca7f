"""Exports trained models to files that run without the library."""
