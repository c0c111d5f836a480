"""Recipes: the schema of the files that say everything a run does, and those that ship."""
