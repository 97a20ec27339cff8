"""Errors and exit codes, files, configurations, processes, tables, plots: independent of chemistry."""
