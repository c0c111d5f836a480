"""A run's folder: its files, its progress, and the result of its search."""
