"""Long jobs: how they show how far they are, what they took, and how they share cores."""
