"""The linear assignment problem: exact, with duals that prove it."""

from bmatch.assignment.answer import Assignment
from bmatch.assignment.certificate import Certificate, certify
from bmatch.assignment.factors import Factors
from bmatch.assignment.solver import batch_linear_sum_assignment, linear_sum_assignment, solve

__all__ = [
    "Assignment",
    "Certificate",
    "Factors",
    "batch_linear_sum_assignment",
    "certify",
    "linear_sum_assignment",
    "solve",
]
