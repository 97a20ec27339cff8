"""What a step of chemistry costs and how exact it is: steps side by side on the same cells, on one core, in one run."""
