"""What a program of any kind needs: errors and exit codes, files, configurations, processes, tables, plots."""
