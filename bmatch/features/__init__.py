"""Features of two dictionaries, matched: sparse autoencoders, transcoders, neurons, probes."""

from bmatch.features.match import FeatureMatch, match_features
from bmatch.features.sketch import ActivationSketch

__all__ = ["ActivationSketch", "FeatureMatch", "match_features"]
