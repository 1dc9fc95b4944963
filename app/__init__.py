"""Parhelion: an open, self-hosted integration hub around HaloPSA."""

__version__ = "0.1.0"
