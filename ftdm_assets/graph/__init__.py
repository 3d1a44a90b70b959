"""The Dagster shell: assets beside their checks, a file a stage, and nothing worth testing alone."""
