"""What leaves the house: exports with proof, and the report."""
