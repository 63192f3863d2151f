"""The search of token paths over item probabilities, compiled: the paths of :class:`MarginalSearch`, one row at a time.

Axes: B request, P path, N item.
"""

from functools import partial

import numpy as np

from recsys.codes.validity import Candidates, ValidityIndex, offsets_of
from recsys.core.arrays import BoolArray, Float64Array, IntArray
from recsys.decoding.config import MarginalSearchConfig
from recsys.decoding.evidence import Cut, UnlikelyPaths
from recsys.decoding.item_probabilities import Categories, Searcher, likely_beam, open_codebooks, paths_of
from recsys.decoding.marginal_search import MarginalSearch
from recsys.decoding.paths import Beam
from recsys.runtime.first_codebook import compile_sums, first_codebook
from recsys.runtime.path_kernels import CodeTable, Limits, Paths, search_paths
from recsys.runtime.weibull import compiled_lower_part


class CompiledSearch:
    """Searches as :class:`recsys.decoding.marginal_search.MarginalSearch` does, which it calls where CORP prunes.

    Args:
        table: the codes of the index's catalogue.
        index, prob_BN, config, categories: as there.
    """

    def __init__(
        self,
        table: CodeTable,
        index: ValidityIndex,
        prob_BN: Float64Array,
        config: MarginalSearchConfig,
        *,
        categories: Categories | None = None,
    ) -> None:
        self.table, self.index, self.prob_BN, self.config, self.categories = table, index, prob_BN, config, categories
        self.cuts: list[Cut | UnlikelyPaths] = []

    def run(self, row_P: IntArray, eligible_PN: BoolArray | None) -> Beam:
        """Return the finished paths of the rows, at most ``num_paths`` each.

        Shape:
            row_P: (rows with an eligible item,); eligible_PN: one line each.
        """
        if self.categories is not None:
            careful = MarginalSearch(self.index, self.prob_BN, self.config, categories=self.categories)
            beam = careful.run(row_P, eligible_PN)
            self.cuts += careful.cuts
            return beam
        slots_B = paths_of(self.prob_BN, self.config)
        every_N = np.ones(self.index.num_items, np.bool_)
        open_M = open_codebooks(self.config, self.index.num_codebooks)
        width = min(self.config.num_paths, self.index.codebook_size)
        found = []
        for place, row in enumerate(row_P.tolist()):
            limits = Limits(
                num_paths=int(slots_B[row]),
                first_book=first_codebook(self.prob_BN[row], self.table, open_M, width),
                finish_below=self.config.finish_below,
                min_steps=self.config.min_steps,
                enough=float(self.config.enough),
                open_M=open_M,
            )
            eligible_N = every_N if eligible_PN is None else eligible_PN[place]
            found.append(search_paths(self.prob_BN[row], eligible_N, self.table, limits))
        beam, cuts = likely_beam(_beam(row_P, found), self.config, compiled_lower_part)
        self.cuts += cuts
        return beam


def compiled_searcher(index: ValidityIndex) -> Searcher:
    """Return what makes compiled searches over an index's catalogue.

    Which kernels the choice of a codebook needs depends on a request's probabilities: all are compiled here.
    """
    table = CodeTable.of(index)
    compile_sums(table)
    return partial(CompiledSearch, table)


def _beam(row_P: IntArray, found: list[tuple[Paths, IntArray]]) -> Beam:
    """Return the paths of all rows, one row after another."""
    paths = [own for own, _ in found]
    sizes_P = np.concatenate([own.size_P for own in paths])
    return Beam(
        row_P=np.repeat(row_P, [len(own.log_prob_P) for own in paths]),
        codes_PM=np.concatenate([own.codes_PM for own in paths]),
        log_prob_P=np.concatenate([own.log_prob_P for own in paths]),
        order_PM=np.concatenate([own.order_PM for own in paths]),
        confidence_PM=np.concatenate([own.confidence_PM for own in paths]),
        category_PQ=np.zeros((len(sizes_P), 1), np.float32),
        candidates=Candidates(
            offsets_P1=offsets_of(sizes_P), items_C=np.concatenate([items_C for _, items_C in found]), sizes_P=sizes_P
        ),
    )
