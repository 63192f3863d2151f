"""Ground floor: configuration, artifacts, seeds, errors, telemetry."""
