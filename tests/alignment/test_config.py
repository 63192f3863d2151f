"""Alignment's settings."""

import pytest

from recsys.alignment.config import AlignmentConfig


def test_alignment_config_when_demonstrations_fill_a_group_then_says_what_to_change():
    with pytest.raises(ValueError, match=r"raise alignment\.group_size"):
        AlignmentConfig(group_size=4, demonstrations=4)
