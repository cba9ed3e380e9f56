"""Which axes of which tensors carry the residual stream, and the proof of it on logits."""

from bmatch.architecture.axes import ResidualAxes, residual_axes, verify

__all__ = ["ResidualAxes", "residual_axes", "verify"]
