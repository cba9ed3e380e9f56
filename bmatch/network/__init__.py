"""Alignment of whole networks: every gauge space at once, by exact assignment in alternation."""

from bmatch.network.folders import align_networks
from bmatch.network.search import NetworkMatch, SpaceMatch, match_networks
from bmatch.network.selection import KINDS, Kind, selected

__all__ = [
    "KINDS",
    "Kind",
    "NetworkMatch",
    "SpaceMatch",
    "align_networks",
    "match_networks",
    "selected",
]
