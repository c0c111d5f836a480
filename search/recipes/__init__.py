"""Recipes: the schema of the files that configure a run, and the recipes that ship with GhostNAS."""
