"""The command line, `chemnet COMMAND`: one file per command."""
