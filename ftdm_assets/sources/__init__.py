"""Where labels come from: files, and the platforms that people label in."""
