"""Codes and paths in words."""

from collections.abc import Mapping

from recsys.contracts import CodeRef, Path


def code_words(facets: Mapping[CodeRef, str], codebook: int, code: int) -> str:
    """Return the words of a code, or its numbers where it has none."""
    return facets.get((codebook, code)) or f"codebook {codebook}, code {code}"


def path_words(facets: Mapping[CodeRef, str], path: Path) -> str:
    """Return the words of a path's steps, e.g. ``hair care > argan oil > travel size``."""
    return " > ".join(code_words(facets, step.codebook, step.code) for step in path.steps)
