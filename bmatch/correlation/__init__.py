"""Cross-correlations of activations that stream by."""

from bmatch.correlation.cross_moments import CrossMoments

__all__ = ["CrossMoments"]
