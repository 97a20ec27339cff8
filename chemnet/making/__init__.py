"""From a mechanism to a model that can be trusted: a look at the gas, a plan, states, a network, checks, a verdict."""
