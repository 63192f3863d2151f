"""The narrow waist: which token is which code, the catalogue of codes, and the exact validity index."""
