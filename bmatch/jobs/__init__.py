"""How long jobs show how far they are and what they took."""
