"""Which axes of which tensors carry the residual stream, and the proof of it on logits."""

from bmatch.architecture.axes import ResidualAxes
from bmatch.architecture.table import residual_axes
from bmatch.architecture.verify import verify

__all__ = ["ResidualAxes", "residual_axes", "verify"]
