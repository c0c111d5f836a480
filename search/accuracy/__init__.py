"""How accurate a network is or will be: measured, inherited from a supernet, or predicted."""
