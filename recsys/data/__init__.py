"""From files to histories: the data contract, importers, event logs and splits."""
