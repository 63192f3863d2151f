"""The online API: HTTP at the edge, a model behind a deadline, a store beneath, a fallback beside."""
