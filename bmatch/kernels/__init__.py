"""Triton kernels: streaming cross-moments and correlations on GPUs.

Each file holds kernel, launcher and public function from top to bottom; `reference` holds their
twins in plain torch. Names inside kernels: i_ index, o_ offsets, m_ mask, p_ pointer, b_ block.
"""
