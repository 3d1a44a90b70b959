"""What runs on the GPU, or on any machine that computes: four programs without Dagster inside.

Invariants: this package imports nothing else of the project; each program reads one JSON
configuration, writes its result folder or file aside and renames it when whole, and ends with
0 (done), 1 (failed, one sentence says why) or 2 (wrong configuration, one sentence says what).
"""
