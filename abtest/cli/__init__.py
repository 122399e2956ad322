"""The command line: thin. It parses, calls, prints; one file a command group."""
