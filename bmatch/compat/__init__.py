"""Other packages' functions by name, signature and results, and PyTorch operators."""
