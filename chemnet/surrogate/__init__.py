"""The model in the place of the integrator: transform, network, closure, domain of validity, model file."""
