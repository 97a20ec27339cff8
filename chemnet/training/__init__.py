"""Training of networks: the loop, optimisers, checkpoints, run folders."""
