"""What transformers writes and runs: checkpoints, activations, text."""
