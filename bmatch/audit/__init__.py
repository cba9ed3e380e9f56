"""Audits: does a claim about coordinates by number survive a change of gauge?"""

from bmatch.audit.claims import Claim
from bmatch.audit.recipes import Recipe, read_claim
from bmatch.audit.runs import Fidelity, fidelity
from bmatch.audit.shares import Share
from bmatch.audit.sweep import Sweep, gauge_sweep, gauge_sweeps

__all__ = [
    "Claim",
    "Fidelity",
    "Recipe",
    "Share",
    "Sweep",
    "fidelity",
    "gauge_sweep",
    "gauge_sweeps",
    "read_claim",
]
