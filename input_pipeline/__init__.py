"""Data: builders turn downloads into records, samples draw clips from them, the loader batches.

Users need `builders.prepare` and `builders.verify`, `records.open_dataset`, the classes of samples
(`samples.ReferringSamples`, `propagation.PropagationSamples`, `instances.InstanceSamples`) and
`loader.train_batches`. The package imports no jax, so that loader workers start quickly.
"""
