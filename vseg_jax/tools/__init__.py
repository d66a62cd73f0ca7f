"""Commands beside training and prediction: optical flow, figures of the papers."""
