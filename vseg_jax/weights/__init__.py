"""Public weights as variables of this package: one module for each published layout."""
