"""Video and audio files in, overlays out; no jax."""
