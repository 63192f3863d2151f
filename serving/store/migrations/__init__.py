"""The steps that make the store's tables, oldest first; run by the server when it starts."""
