"""The gas: mechanisms, thermodynamics, rows of states, the closure of elements and enthalpy, canonical flames."""
