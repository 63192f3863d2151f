"""A token model: a causal encoder over sums of code vectors, whose item logits are sums of code logits.

A query has two parts. The encoder's is a vector of learned length; the transitions' is a weighted sum of the latest
items' vectors, without any layer between: a Markov chain of codes in factors. Codes have vectors for both.

No vector belongs to an item, on either side, so an item that was never in training is ranked as soon as it has codes.

Axes: B batch, T time, M codebook, K code, N item, D width (the encoder's and the transitions'), F transition width,
X item of a list, E event. A token is a (codebook, code) pair, numbered codebook by codebook.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.codes.layout import CodeLayout
from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.model.batches import pad_histories
from recsys.model.blocks import CausalEncoder
from recsys.model.tokens.config import TokenModelConfig

DECAY = 0.7
"""What an event counts in transitions before training, as a share of what the event after it counts."""
FIRST_TRANSITIONS = 0.2
"""How long the output vectors of transitions are before training, as a share of the encoder's."""
LONGEST_QUERY = 100.0
"""What the length of a query is clamped to."""
_FAR_FUTURE = torch.iinfo(torch.int64).max


class _SumOfCodes(torch.autograd.Function):
    """Each item's sum of its codes' vectors; the gradient of a code is summed over its posting list, the same way."""

    @staticmethod
    def forward(ctx: Any, code_vectors: Tensor, token_NM: Tensor, posting: Tensor, start: Tensor) -> Tensor:
        ctx.save_for_backward(posting, start)
        return functional.embedding_bag(token_NM, code_vectors, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        posting, start = ctx.saved_tensors
        return functional.embedding_bag(posting, grads[0].contiguous(), start, mode="sum"), None, None, None


class TokenModel(nn.Module):
    """Scores items by the sum of their codes' logits (a log-linear model of codes, normalised over the catalogue)."""

    token_NM: Tensor
    calendar_edges: Tensor

    def __init__(self, config: TokenModelConfig, layout: CodeLayout, codes_NM: IntArray) -> None:
        super().__init__()
        self.config, self.layout = config, layout
        width, books = config.width, layout.num_codebooks
        both = width + config.transition_width
        self.code_in = nn.Parameter(torch.randn(layout.num_tokens, both) / books**0.5)
        self.code_out = nn.Parameter(torch.randn(layout.num_tokens, both) / ((width - 1) * books) ** 0.5)
        self.start = nn.Parameter(torch.zeros(width))
        self.calendar = nn.Embedding(config.calendar + 1, width)
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.encoder = CausalEncoder(width, config.heads, config.layers, config.dropout, config.max_history + 1)
        self.query = nn.Linear(width, width - 1)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(config.scale))))
        self.register_buffer("calendar_edges", torch.full((config.calendar - 1,), _FAR_FUTURE))
        nn.init.zeros_(self.calendar.weight)
        decay_T = DECAY ** torch.arange(config.transition_events, dtype=torch.float)
        weight_TF = decay_T[:, None].repeat(1, config.transition_width)  # the latest event first
        self.transition_TF = nn.Parameter(weight_TF) if config.transition_width else None
        with torch.no_grad():
            self.code_out[:, width - 1 :] *= FIRST_TRANSITIONS
            self.code_out[:, -1] = 0  # the last column is the code's bias
        self.set_items(codes_NM)

    def with_transitions(self, width: int, *, seed: int) -> "TokenModel":
        """Return a copy that also has transitions of some width, untrained: its logits are nearly what they were."""
        config, own = self.config.model_copy(update={"transition_width": width}), self.config.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wider = TokenModel(config, self.layout, self.codes_NM())
        widened = {"code_in", "code_out", "transition_TF"}
        same = {name: value for name, value in self.state_dict().items() if name not in widened}
        wider.load_state_dict(same, strict=False)
        with torch.no_grad():
            wider.code_in[:, :own] = self.code_in
            wider.code_out[:, : own - 1], wider.code_out[:, -1] = self.code_out[:, : own - 1], self.code_out[:, -1]
        return wider.to(self.device)

    def codes_NM(self) -> IntArray:
        """Return the items' codes, (items, codebooks)."""
        return (self.token_NM % self.layout.codebook_size).cpu().numpy()

    @property
    def num_items(self) -> int:
        """Number of items of the catalogue."""
        return len(self.token_NM)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    def set_items(self, codes_NM: IntArray) -> None:
        """Take over a catalogue's codes; items that training never saw are scored like all others.

        Shape:
            codes_NM: (items, codebooks), each below the layout's codebook size.
        """
        books, size = self.layout.num_codebooks, self.layout.codebook_size
        if (
            codes_NM.ndim != 2
            or codes_NM.shape[1] != books
            or not (0 <= codes_NM.min(initial=0) <= codes_NM.max(initial=0) < size)
        ):
            raise ValueError(
                f"codes must be (items, {books}) numbers from 0 to {size - 1}, got shape {codes_NM.shape}; "
                "encode the items with the tokenizer that the model was trained with"
            )
        token_NM = torch.from_numpy(codes_NM + np.arange(books) * size)
        counts = torch.bincount(token_NM.flatten(), minlength=self.layout.num_tokens)
        device = self.device
        self.register_buffer("token_NM", token_NM.to(device))
        order = token_NM.flatten().argsort(stable=True)
        self.register_buffer("_posting", (order // books).to(device), persistent=False)
        self.register_buffer("_posting_start", (counts.cumsum(0) - counts).to(device), persistent=False)

    def set_calendar(self, timestamps_E: IntArray) -> None:
        """Cut time into spans that hold equal numbers of training events."""
        edges = np.quantile(timestamps_E, np.linspace(0, 1, self.config.calendar + 1)[1:-1], method="lower")
        self.calendar_edges.copy_(torch.from_numpy(edges))

    def item_inputs(self) -> Tensor:
        """Return the sum of each item's input code vectors, (items, width); the encoder reads the first columns."""
        return self._sums(self.code_in)

    def item_keys(self, items_X: Tensor | None = None) -> Tensor:
        """Return what queries are multiplied with: the sum of items' output code vectors, (items, width)."""
        if items_X is None:
            return self._sums(self.code_out)
        return functional.embedding_bag(self.token_NM[items_X], self.code_out, mode="sum")

    def _sums(self, code_vectors: Tensor) -> Tensor:
        return _SumOfCodes.apply(code_vectors, self.token_NM, self._posting, self._posting_start)  # type: ignore[no-untyped-call]

    def prefix_queries(self, items_BT: Tensor, timestamps_BT: Tensor, input_ND: Tensor) -> Tensor:
        """Return the query after the start vector and after each item.

        Shape:
            items_BT: (batch, time) catalogue indices, padding (any index) on the right.
            timestamps_BT: (batch, time) seconds.
            input_ND: :meth:`item_inputs`.
            result: (batch, time + 1, width); entry t has seen the first t items.
        """
        spans_BT = torch.bucketize(timestamps_BT.contiguous(), self.calendar_edges)
        x_BTD, from_BTF = functional.embedding(items_BT, input_ND).tensor_split([self.config.width], dim=-1)
        x_BTD = x_BTD + self.calendar(spans_BT)
        x_BTD = torch.cat([self.start.expand(len(items_BT), 1, -1), x_BTD], dim=1)
        first_B1 = timestamps_BT[:, :1] if timestamps_BT.shape[1] else timestamps_BT.new_zeros(len(items_BT), 1)
        states_BTD = self.encoder(self.input_dropout(x_BTD), torch.cat([first_B1, timestamps_BT], dim=1))
        unit_BTD = functional.normalize(self.query(states_BTD), dim=-1) * self.log_scale.exp().clamp(max=LONGEST_QUERY)
        transition_BTF = self._transitions(self.input_dropout(from_BTF))
        # the one meets the codes' biases
        return torch.cat([unit_BTD, transition_BTF, torch.ones_like(unit_BTD[..., :1])], dim=-1)

    def _transitions(self, from_BTF: Tensor) -> Tensor:
        """Return the weighted sum of the latest items' vectors after the start and after each item.

        Shape:
            from_BTF: (batch, time, transition width); result: (batch, time + 1, transition width).
        """
        if self.transition_TF is None:
            return from_BTF.new_zeros(len(from_BTF), from_BTF.shape[1] + 1, 0)
        events, width = self.transition_TF.shape
        padded_BFT = functional.pad(from_BTF.transpose(1, 2), (events, 0))
        weight_F1T = self.transition_TF.flip(0).T[:, None]
        return functional.conv1d(padded_BFT, weight_F1T, groups=width).transpose(1, 2)

    def queries(self, histories: Sequence[History], *, input_ND: Tensor | None = None) -> Tensor:
        """Return the query after each whole history (its latest ``max_history`` events), (histories, width)."""
        padded = pad_histories(histories, self.config.max_history)
        items_BT, times_BT, lengths_B = (torch.from_numpy(array).to(self.device) for array in padded)
        input_ND = self.item_inputs() if input_ND is None else input_ND
        queries_BTD = self.prefix_queries(items_BT, times_BT, input_ND)
        return queries_BTD[torch.arange(len(histories), device=self.device), lengths_B]

    def code_logits(self, query_BD: Tensor) -> Tensor:
        """Return every code's logit, (batch, codebooks, codes); an item's logit is the sum over its codes."""
        return (query_BD @ self.code_out.T).unflatten(1, (self.layout.num_codebooks, self.layout.codebook_size))
