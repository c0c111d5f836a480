"""How pictures look, and the picture of a network: for reports, and for what is exported."""
