"""The commands of ``ftdm``, a file each; every one returns its exit code."""
