"""Training sets: recipes, sampling, labels by the exact integrator, the HDF5 file."""
