"""`rtsr doctor`: what this machine has, what of it works, what mends the rest, and which settings fit.

probe.py runs each look at the machine in a process of its own; machine.py, gpu.py, media.py, engines.py and speed.py
are what they look at; examine.py puts it together, report.py shows it.
"""
