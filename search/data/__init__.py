"""Data sets: how they are named, loaded, split and transformed."""
