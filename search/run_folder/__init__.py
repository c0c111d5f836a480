"""A run's folder: what stands where in it, how far it has come, and what its search came to."""
