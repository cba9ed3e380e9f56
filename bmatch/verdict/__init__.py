"""How far a match can be trusted where the truth is not known."""
