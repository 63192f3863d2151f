"""Codes and paths in words."""

from recsys.codes.words import code_words, path_words
from recsys.contracts import Path, Step


def test_path_words_when_a_code_has_no_words_then_its_numbers_stand_there() -> None:
    facets = {(0, 3): "hair care", (2, 1): ""}
    steps = tuple(Step(codebook=book, code=code, confidence=0.5) for book, code in ((0, 3), (2, 1), (1, 0)))
    assert code_words(facets, 0, 3) == "hair care"
    assert path_words(facets, Path(steps=steps, log_prob=-1.0)) == "hair care > codebook 2, code 1 > codebook 1, code 0"
    assert path_words(facets, Path(steps=(), log_prob=0.0)) == ""
