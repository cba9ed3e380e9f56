"""networkx: a full matching of least weight."""

from __future__ import annotations

import networkx as nx
import numpy as np


def test_a_planted_matching_of_300_is_found() -> None:
    r = np.random.default_rng(0)
    weights = 1 + r.random((300, 300))
    planted = r.permutation(300)
    weights[np.arange(300), planted] = 0.5
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        (("left", i), ("right", j), weights[i, j]) for i in range(300) for j in range(300)
    )
    left = {("left", i) for i in range(300)}
    found = nx.bipartite.minimum_weight_full_matching(graph, left)
    assert all(found["left", i] == ("right", j) for i, j in enumerate(planted.tolist()))
