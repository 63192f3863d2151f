"""What additive tokenizers share (codewords are summed in one space): greedy lookup level by level, distances.

Axes: B item of a batch, M codebook (level), K code, D width of the common space.
"""

from torch import Tensor

from recsys.tokenizer.base import nearest_codewords


def greedy_codes(targets_BD: Tensor, codebooks_MKD: Tensor) -> Tensor:
    """Return codes level by level, each the codeword nearest to what the levels before left, shape (batch, levels)."""
    rest_BD = targets_BD
    codes_BM = targets_BD.new_empty(len(targets_BD), len(codebooks_MKD)).long()
    for level, codewords_KD in enumerate(codebooks_MKD):
        codes_BM[:, level] = nearest_codewords(rest_BD, codewords_KD)
        rest_BD = rest_BD - codewords_KD[codes_BM[:, level]]
    return codes_BM


def summed(codes_BM: Tensor, codebooks_MKD: Tensor) -> Tensor:
    """Return the sum of the codewords of codes, shape (batch, width)."""
    total_BD = codebooks_MKD.new_zeros(len(codes_BM), codebooks_MKD.shape[2])
    for level, codewords_KD in enumerate(codebooks_MKD):
        total_BD = total_BD + codewords_KD[codes_BM[:, level]]
    return total_BD


def exchange_prices(targets_BD: Tensor, codes_BM: Tensor, codebooks_MKD: Tensor) -> Tensor:
    """Return the squared error of the sum with each code in the place of an item's own, the other codes kept.

    Shape:
        returns: (batch, levels, codes).
    """
    error_BD = targets_BD - summed(codes_BM, codebooks_MKD)
    prices_BMK = targets_BD.new_empty(*codes_BM.shape, codebooks_MKD.shape[1])
    for level, codewords_KD in enumerate(codebooks_MKD):
        without_BD = error_BD + codewords_KD[codes_BM[:, level]]
        prices_BMK[:, level] = without_BD.square().sum(-1, keepdim=True) + codewords_KD.square().sum(-1)
        prices_BMK[:, level] -= 2 * without_BD @ codewords_KD.T
    return prices_BMK.clamp_min_(0)
