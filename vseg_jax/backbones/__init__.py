"""Backbones: networks for images, clips, audio and optical flow."""
