"""Item vectors: what an item's words say, and who goes with whom."""
