"""Assemblies: the training flow, batch jobs and the command line. Start with ``flow.py``."""
