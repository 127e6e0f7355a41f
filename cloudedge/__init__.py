"""The command line: thin, and quick to start (it imports what a command needs when it runs)."""
