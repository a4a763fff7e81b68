"""The command line `ror`, one file a command."""
