"""The peer that decodes left to right: Hugging Face ``generate`` by beam search, held to a catalogue by a prefix trie.

A GPT-2 with the width, layers and heads of the run's encoder and random weights reads the codes of the last items and
writes the codes of the next ones. Random weights take as long as trained ones; what it recommends is not looked at.

Axes: N item, M codebook.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pipelines.benches.measure import Line, beside
from recsys.contracts import History, Recommender, Request, Slate
from recsys.core.arrays import FloatArray, IntArray
from recsys.core.errors import ArtifactError
from recsys.data.prepare import load_prepared
from recsys.data.splits import questions
from recsys.model.config import GeneratorConfig
from recsys.recommender.served import ServedBundle, load_served
from recsys.runtime.compiled import use_one_thread

BEAMS, HISTORY, CALLS, WARM_UP = 10, 20, 50, 5
Trie = dict[int, "Trie"]


def prefix_trie(tokens_NM: IntArray) -> Trie:
    """Return the tree of the catalogue's token sequences.

    Shape:
        tokens_NM: (items, codebooks).
    """
    root: Trie = {}
    for tokens in tokens_NM.tolist():
        node = root
        for token in tokens:
            node = node.setdefault(token, {})
    return root


def allowed_tokens(root: Trie, prompt: int) -> Callable[[int, torch.Tensor], list[int]]:
    """Return the callback of ``generate`` that lists what may follow what is written behind a prompt of this length."""

    def allowed(_row: int, tokens_T: torch.Tensor) -> list[int]:
        node = root
        for token in tokens_T[prompt:].tolist():
            node = node[token]
        return list(node)

    return allowed


class GeneratePeer:
    """Recommends ten items by ``generate`` with ten beams.

    Args:
        codes_NM: (items, codebooks) the catalogue's codes.
        config: whose width, layers and heads the decoder has.
    """

    name = "transformers generate with a prefix trie"

    def __init__(self, codes_NM: IntArray, config: GeneratorConfig) -> None:
        self._items, codebooks = codes_NM.shape
        self._tokens_NM = codes_NM + np.arange(codebooks) * config.codebook_size
        self._start = codebooks * config.codebook_size
        self._trie = prefix_trie(self._tokens_NM)
        torch.manual_seed(0)
        settings = GPT2Config(
            vocab_size=self._start + 2,
            n_positions=1 + codebooks * (HISTORY + 1),
            n_embd=config.shape["width"],
            n_layer=config.shape["layers"],
            n_head=config.shape["heads"],
            bos_token_id=self._start,
            eos_token_id=None,
            pad_token_id=self._start + 1,
        )
        self._model = GPT2LMHeadModel(settings).eval()
        self._item_of = {tuple(tokens): item for item, tokens in enumerate(self._tokens_NM.tolist())}

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Return one slate per request; where items share all codes, the last of them stands for all."""
        return [self._one(request.history) for request in requests]

    def _one(self, history: History) -> Slate:
        written = self._tokens_NM[history.items[-HISTORY:]].ravel()
        prompt_1T = torch.from_numpy(np.concatenate([[self._start], written]))[None]
        with torch.inference_mode():
            found = self._model.generate(
                prompt_1T,
                attention_mask=torch.ones_like(prompt_1T),
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                max_new_tokens=self._tokens_NM.shape[1],
                do_sample=False,
                use_cache=True,
                prefix_allowed_tokens_fn=allowed_tokens(self._trie, prompt_1T.shape[1]),
                return_dict_in_generate=True,
                output_scores=True,
            )
        sequences = found.sequences[:, prompt_1T.shape[1] :].tolist()
        scores: FloatArray = found.sequences_scores.numpy()
        return Slate(items=np.array([self._item_of[tuple(tokens)] for tokens in sequences]), scores=scores)


def bench_generate(run: Path) -> list[Line]:
    """Time slates of a run's bundle beside the peer's, in turns on the same validation users, on one thread.

    Every history is new to the bundle, as it is to the peer, which keeps the keys and values of a history while it
    writes, as ``generate`` does by default.

    Raises:
        ArtifactError: the run's bundle is not served by the runtime.
    """
    torch.set_num_threads(1)
    use_one_thread()
    bundle = load_served(run / "bundle")
    if not isinstance(bundle, ServedBundle):
        raise ArtifactError(f"{run / 'bundle'} must be served by the runtime, got torch; the log says why")
    config = GeneratorConfig.from_pretrained(run / "bundle" / "model")
    peer = GeneratePeer(bundle.generative.catalogue.codes_NM, config)
    queries = questions(load_prepared(run / "data").log, "validation").sample(WARM_UP + CALLS, seed=1)
    ways: dict[str, tuple[Recommender, bool | None]] = {
        "no paths": (bundle.ranker, None),
        "paths": (bundle.recommender, None),
        "peer": (peer, None),
    }
    if bundle.tokens is not None:
        ways["no paths, catalogue ranked"] = (bundle.ranker, True)
    milliseconds: dict[str, list[float]] = {how: [] for how in ways}
    for history in queries.histories:
        for how, (recommender, whole) in ways.items():
            bundle.forget()
            began = time.perf_counter()
            recommender.recommend([Request(history=history, whole_catalogue=whole)])
            milliseconds[how].append(1000 * (time.perf_counter() - began))
    theirs = milliseconds["peer"][WARM_UP:]
    return [
        beside(
            f"{len(bundle.catalogue.item_ids):,} items, {how}, history new, median of {CALLS}, in turns with "
            f"{peer.name} (GPT-2 of width {config.shape['width']}, random weights, {BEAMS} beams)",
            milliseconds[how][WARM_UP:],
            theirs,
            peer_name="generate",
            unit="ms",
        )
        for how in ways
        if how != "peer"
    ]
