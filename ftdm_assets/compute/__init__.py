"""Where a GPU step runs: a local process here; remote machines take the same configuration."""
