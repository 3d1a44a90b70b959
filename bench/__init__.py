"""The figures of the README, each by a command."""
