"""One HTML page about a run: parts read the run's files, plots draw them, a template lays them out."""
