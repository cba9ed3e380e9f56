"""scikit-learn: the consensus of biclusters, and the accuracy of clusters without names."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix, consensus_score


def test_the_same_biclusters_in_another_order_agree() -> None:
    r = np.random.default_rng(0)
    rows, columns = r.random((2, 100, 60)) < 0.3
    order = r.permutation(100)
    assert consensus_score((rows, columns), (rows[order], columns[order])) == 1.0


def test_accuracy_of_clusters() -> None:
    r = np.random.default_rng(0)
    classes = np.repeat(np.arange(200), 50)
    clusters = r.permutation(200)[classes]
    clusters[::10] = r.integers(0, 200, 1000)
    table = confusion_matrix(classes, clusters)
    agree = table[linear_sum_assignment(table, maximize=True)].sum() / len(classes)
    assert 0.9 <= agree < 0.92
