"""Scripts that try to break a job: odd files, kills, damaged bytes, long films. See README.md; pytest runs a few of
each through test_torture.py and test_fuzz.py."""
