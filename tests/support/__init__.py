"""Stand-ins the tests share."""
