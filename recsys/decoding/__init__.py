"""From scores to slates: paths in a free codebook order (CRSS), pruned where inconsistent (CORP).

A path is a set of (codebook, code) pairs, chosen one a step in any order; it is valid as long as some item has them
all, and it reaches the items that do. There are two searches, because there are two kinds of models:

- ``decoder`` and ``search``: the generator of the paper. Token heads score the next code of a path
  (:class:`recsys.contracts.StepScorer`), as a decoder of semantic ids does (TIGER), with the order of codebooks free
  (``crss``). ``guidance`` weighs their steps by an item head's distribution, ``retrace`` makes the path of an item that
  no searched path reached.
- ``marginal_decoder`` and ``marginal_search``: models that give every item a probability (``item_probabilities``),
  such as the token experts of ``recsys.model.tokens``. The probability of a code, given those chosen, is a ratio
  of two marginals, sums of item probabilities: over the items that have it, and over all that remain. So steps need no
  model of their own, and all orders agree. ``kept_places`` keeps places of their slates for some items.

Both share the beam (``paths``), the check of category jumps (``corp``), and what makes a slate of the items that paths
reach (``evidence``). ``reasoning_pruning`` takes out finished paths of low probability (RPC).
"""
