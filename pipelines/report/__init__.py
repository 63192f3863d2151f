"""One HTML page about a run: sections are read from the run's files, plots drawn, and a template lays them out."""
