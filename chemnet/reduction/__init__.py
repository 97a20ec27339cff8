"""Reduction of trained chemistry networks by condensation: stages with retraining, comparisons, reports."""
