"""Evidence as pages that people read."""
