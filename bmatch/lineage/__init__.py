"""Whether one checkpoint comes from another, told by the weights alone."""
