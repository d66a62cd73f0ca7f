"""Commands besides training and prediction: optical flow, and figures of the papers."""
