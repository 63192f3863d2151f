"""The shapes of requests and responses; fields are only ever added."""
