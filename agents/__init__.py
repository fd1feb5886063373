"""Task-conditioned policies and how they learn."""
