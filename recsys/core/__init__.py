"""What every other package may import: configuration, artifacts, seeds, errors, training, telemetry."""
