"""The Dagster shell: assets beside their checks, a file a stage."""
