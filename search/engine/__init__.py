"""Search: one problem, its trial log, its Pareto front, and a file for each backend."""
