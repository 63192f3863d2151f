"""The weights of token experts as the runtime reads them, and their files.

config.json          format, experts: names, whose codebooks they read, sizes
weights.safetensors  one array a field, named by its place (``ranking.encoder.up_YDV``)

Axes: N item, M codebook, K token (code of a codebook, numbered codebook by codebook), D width, E event of training,
T event of a history, F transition width. Local: V width of a query's part that the encoder makes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from recsys.core.arrays import FloatArray, IntArray
from recsys.core.errors import ArtifactError
from recsys.runtime.encoder import Encoder
from recsys.runtime.files import REMEDY, read_folder, write_folder
from recsys.runtime.weights import flat, nested

FORMAT = 2
"""Raised when the files change their meaning."""


class ExpertWeights(NamedTuple):
    """What one token expert learned; an item is the sum of its codes on both sides.

    Shape:
        input_KD: (tokens, width) what the encoder reads of an item's codes, behind it what transitions start from.
        start_D: (width of the encoder,) what it reads before the first item.
        calendar_ED: one line a span of time, and one for "no event" behind them.
        calendar_edges_E: the last second of each span but the last.
        query_DV, query_bias_V: from the encoder's state to a query. scale: one number, the length of such queries.
        transition_TF: (events, transition width) what the latest events count, the latest first.
        output_KD: (tokens, width) what a query is multiplied with; the last column is the codes' biases.
    """

    input_KD: FloatArray
    start_D: FloatArray
    calendar_ED: FloatArray
    calendar_edges_E: IntArray
    query_DV: FloatArray
    query_bias_V: FloatArray
    scale: FloatArray
    transition_TF: FloatArray
    output_KD: FloatArray
    encoder: Encoder


class Expert(NamedTuple):
    """One token expert: its weights, and the codebooks that it reads."""

    name: str
    codebooks: str
    """The expert whose codebooks it reads; its own name where it has some of its own."""
    num_codebooks: int
    max_history: int
    weights: ExpertWeights


def codebooks_of(experts: Sequence[Expert]) -> dict[str, slice]:
    """Return each expert's columns in the catalogue of all experts' codebooks, which stand side by side."""
    owned: dict[str, slice] = {}
    stop = 0
    for expert in experts:
        if expert.codebooks == expert.name:
            owned[expert.name] = slice(stop, stop := stop + expert.num_codebooks)
    return {expert.name: owned[expert.codebooks] for expert in experts}


def save_experts(experts: Sequence[Expert], folder: Path) -> None:
    """Write experts into a new folder."""
    rows: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for expert in experts:
        fields = expert._asdict()
        arrays |= flat(fields.pop("weights"), f"{expert.name}.")
        rows.append(fields)
    write_folder(folder, {"experts": rows}, arrays, form=FORMAT)


def load_experts(folder: Path) -> list[Expert]:
    """Read what :func:`save_experts` wrote.

    Raises:
        ArtifactError: a file is missing, of another format, or holds arrays that do not belong together.
    """
    config, arrays = read_folder(folder, form=FORMAT)
    try:
        experts = [Expert(**row, weights=nested(ExpertWeights, arrays, row["name"])) for row in config["experts"]]
        codebooks_of(experts)  # each reads the codebooks of one that is there
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder} must hold the token experts of a runtime, got {error!r}; {REMEDY}") from error
    return experts


def require_codes(experts: Sequence[Expert], codes_NM: IntArray, codebook_size: int) -> None:
    """Refuse a catalogue that has other codebooks than the experts: compiled code does not look.

    Raises:
        ArtifactError: the number or the size of codebooks is another one, or a code is none.
    """
    books = max(columns.stop for columns in codebooks_of(experts).values())
    tokens = {expert.name: (expert.num_codebooks * codebook_size,) * 2 for expert in experts}
    held = {expert.name: (len(expert.weights.input_KD), len(expert.weights.output_KD)) for expert in experts}
    inside = not codes_NM.size or 0 <= codes_NM.min() <= codes_NM.max() < codebook_size
    if codes_NM.shape[1] != books or tokens != held or not inside:
        raise ArtifactError(
            f"token experts must be of the catalogue's {codes_NM.shape[1]} codebooks of {codebook_size} codes, got "
            f"{books} codebooks and {held} vectors of codes; {REMEDY}"
        )
