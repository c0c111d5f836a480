"""Latency on the user's own hardware: time a space's units and some whole networks, fit, predict, say how well."""
