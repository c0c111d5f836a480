"""Everything that runs: the command line, the pipeline, and a room for each of its stages."""
