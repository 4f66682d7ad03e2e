"""Model packages."""
