"""The linear assignment problem: exact, with duals that prove it."""

from bmatch.assignment.solver import (
    Assignment,
    Certificate,
    batch_linear_sum_assignment,
    certify,
    linear_sum_assignment,
    solve,
)

__all__ = [
    "Assignment",
    "Certificate",
    "batch_linear_sum_assignment",
    "certify",
    "linear_sum_assignment",
    "solve",
]
