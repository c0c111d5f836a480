"""Work side by side through Ray."""
