"""Training: the supernet by the sandwich rule, single networks fully, one loop for both."""
