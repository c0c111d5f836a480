"""Networks as files of other runtimes, each with proof that it is the network."""
