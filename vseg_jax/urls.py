"""Addresses of the documentation, for error messages and the help of the command line."""

DOCS = "https://vseg-jax.github.io/vseg_jax/"
DATASETS = f"{DOCS}datasets/"  # how to obtain each dataset, and its layout on disk
