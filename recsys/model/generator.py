"""The generator: encodes a history, scores items, and scores the next token of a partial path in any order.

Axes: B batch, T time, P path, R row (a training position), M codebook, K code, N item, Q category, D width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.model.batches import pad_histories
from recsys.model.blocks import CausalEncoder
from recsys.model.config import GeneratorConfig, ModelConfig
from recsys.model.cooccurrence_prior import CooccurrencePrior, entries
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig

_FAR_FUTURE = torch.iinfo(torch.int64).max


class TokenDecoder(nn.Module):
    """Scores all codebooks' codes and the category, given a history's state and the codes chosen so far."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        shape = ModelConfig(**config.shape)
        tokens = config.num_codebooks * config.codebook_size
        self.from_state = nn.Linear(shape.width, shape.decoder_width)
        self.from_codes = nn.Linear(config.num_codebooks * shape.code_width, shape.decoder_width, bias=False)
        self.from_mask = nn.Linear(config.num_codebooks, shape.decoder_width, bias=False)
        self.hidden = nn.Sequential(nn.GELU(), nn.Dropout(shape.dropout), nn.Linear(shape.decoder_width, shape.width))
        self.norm = nn.LayerNorm(shape.width)
        self.token_head = nn.Linear(shape.width, tokens)
        self.category_head = nn.Linear(shape.width, config.num_categories)

    def forward(self, state_PD: Tensor, chosen_PMC: Tensor, used_PM: Tensor) -> tuple[Tensor, Tensor]:
        """Return token logits (paths, codebooks x codes) and category logits (paths, categories)."""
        mixed = self.from_state(state_PD) + self.from_codes(chosen_PMC.flatten(1)) + self.from_mask(used_PM)
        g_PD = self.norm(state_PD + self.hidden(mixed))
        return self.token_head(g_PD), self.category_head(g_PD)


class Generator(PreTrainedModel):
    """REG4Rec's generative model with an item-level causal encoder and an any-order token decoder.

    The encoder reads one vector an item (its codes' embeddings and an id vector) after a learned start vector, so one
    pass over a history trains every position of it. Items and tokens are scored from the same state.
    """

    config_class = GeneratorConfig
    base_model_prefix = "generator"
    main_input_name = "items_BT"

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        shape = self.shape = ModelConfig(**config.shape)
        tokens = config.num_codebooks * config.codebook_size
        self.register_buffer("codes_NM", torch.zeros(config.num_items, config.num_codebooks, dtype=torch.long))
        self.code_embedding = nn.Embedding(tokens, shape.code_width)
        self.code_projection = nn.Linear(config.num_codebooks * shape.code_width, shape.width)
        self.code_dropout = nn.Dropout(shape.code_dropout)
        self.item_embedding = nn.Embedding(config.num_items, shape.width)
        self.start = nn.Parameter(torch.zeros(shape.width))
        self.input_dropout = nn.Dropout(shape.dropout / 2)
        self.encoder = CausalEncoder(shape.width, shape.heads, shape.layers, shape.dropout, shape.max_history + 1)
        self.calendar_in = nn.Embedding(shape.calendar + 1, shape.width)
        self.calendar_out = nn.Embedding(shape.calendar + 1, shape.width)
        self.register_buffer("calendar_edges", torch.full((shape.calendar - 1,), _FAR_FUTURE))
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.07))))
        self.register_buffer("item_bias_N", torch.zeros(config.num_items))
        self.prior_weight_J = nn.Parameter(torch.full((len(config.prior_pairs),), 0.3))
        for window, pairs in enumerate(config.prior_pairs):
            self.register_buffer(f"prior_starts_{window}", torch.zeros(config.num_items + 1, dtype=torch.int32))
            self.register_buffer(f"prior_items_{window}", torch.zeros(pairs, dtype=torch.int32))
            self.register_buffer(f"prior_values_{window}", torch.zeros(pairs))
        self.decoder = TokenDecoder(config)
        self.member: IdTransformer | None = None
        if config.member is not None:
            self.member = IdTransformer(IdTransformerConfig(**config.member), config.num_items)
        self.post_init()
        nn.init.zeros_(self.calendar_in.weight)
        nn.init.zeros_(self.calendar_out.weight)

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> "Generator":
        """Load a saved generator for use, without a progress bar for its few megabytes.

        Raises:
            ArtifactError: the folder was written by a version whose generator had other parts.
        """
        disable_progress_bar()
        generator: Generator
        generator, found = cls.from_pretrained(folder, output_loading_info=True)
        if generator.member is not None:
            generator.member.requires_grad_(False)
        if lacking := sorted(found["missing_keys"]):
            raise ArtifactError(
                f"{folder} must hold all weights of this version's generator, but lacks {', '.join(lacking[:3])}; "
                f"train the run again"
            )
        return generator.to(device or torch.device("cpu")).eval()

    def save(self, folder: Path) -> None:
        """Save in the Hugging Face layout, without a progress bar."""
        disable_progress_bar()
        self.save_pretrained(folder)

    @torch.no_grad()
    def start_items_from(self, vectors_NV: Tensor) -> None:
        """Start the id vectors from unit vectors of known likeness, cut or padded with zeros to the model's width.

        A fresh encoder passes its last input through nearly unchanged, so the item head starts out ranking the
        neighbours of a history's last item.
        """
        shared = min(vectors_NV.shape[1], self.shape.width)
        self.item_embedding.weight.zero_()
        self.item_embedding.weight[:, :shared] = functional.normalize(vectors_NV[:, :shared], dim=-1)

    @torch.no_grad()
    def add_member(self, member: IdTransformer, config: IdTransformerConfig, unused_X: Tensor) -> None:
        """Add an ensemble member that was trained apart; its weights stay frozen and its share is unchanged.

        Item logits are mixed by ``member_share`` of the config; items without training events get zero vectors in it.

        Raises:
            ValueError: it reads shorter histories than this model.
        """
        if config.max_length < self.shape.max_history:
            raise ValueError(
                f"an ensemble member must read histories of {self.shape.max_history} events as this model does, got "
                f"one that reads {config.max_length}; train it with max_length={self.shape.max_history}"
            )
        self.member = member.requires_grad_(False).to(self.device).train(self.training)
        self.member.items.weight[unused_X] = 0
        self.config.member = config.model_dump()

    @torch.no_grad()
    def set_prior(self, prior: CooccurrencePrior) -> None:
        """Put a prior into the item head; its tables must have as many pairs as the config's ``prior_pairs``."""
        for window, table_NN in enumerate(prior.tables):
            for part, values in (("starts", table_NN.indptr), ("items", table_NN.indices), ("values", table_NN.data)):
                getattr(self, f"prior_{part}_{window}").copy_(torch.from_numpy(values))

    def prior(self) -> CooccurrencePrior:
        """Return the item head's prior, without tables where the model has none."""
        shape = (self.config.num_items, self.config.num_items)
        parts = [
            [getattr(self, f"prior_{part}_{window}").cpu().numpy() for part in ("values", "items", "starts")]
            for window in range(len(self.config.prior_pairs))
        ]
        return CooccurrencePrior(tables=tuple(csr_array(tuple(part), shape=shape) for part in parts))

    @torch.no_grad()
    def set_calendar(self, timestamps_E: IntArray) -> None:
        """Cut time into spans that hold equal numbers of training events."""
        edges = np.quantile(timestamps_E, np.linspace(0, 1, self.shape.calendar + 1)[1:-1], method="lower")
        self.calendar_edges.copy_(torch.from_numpy(edges))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.05)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def _offsets_M(self) -> Tensor:
        config = self.config
        return torch.arange(config.num_codebooks, device=self.device) * config.codebook_size

    def item_vectors(self) -> Tensor:
        """Return every item's vector: projected code embeddings plus its id vector, shape (items, width)."""
        codes = self.code_embedding(self.codes_NM + self._offsets_M()).flatten(1)
        return self.code_projection(self.code_dropout(codes)) + self.item_embedding.weight

    def encode_prefixes(self, items_BT: Tensor, timestamps_BT: Tensor, vectors_ND: Tensor) -> Tensor:
        """Return the state after the start vector and after each item.

        Shape:
            items_BT: (batch, time) catalogue indices, padding (any index) on the right.
            timestamps_BT: (batch, time) seconds.
            result: (batch, time + 1, width), a member's states beside it where there is one; entry t has seen the
            first t items.
        """
        spans_BT = torch.bucketize(timestamps_BT.contiguous(), self.calendar_edges)
        x_BTD = self.shape.input_scale * functional.embedding(items_BT, vectors_ND) + self.calendar_in(spans_BT)
        start_B1D = self.start.expand(len(items_BT), 1, -1)
        first_B1 = timestamps_BT[:, :1] if timestamps_BT.shape[1] else timestamps_BT.new_zeros(len(items_BT), 1)
        x_BTD = self.input_dropout(torch.cat([start_B1D, x_BTD], dim=1))
        states_BTD: Tensor = self.encoder(x_BTD, torch.cat([first_B1, timestamps_BT], dim=1))
        before_B1 = torch.full_like(first_B1, self.shape.calendar)
        states_BTD = states_BTD + self.calendar_out(torch.cat([before_B1, spans_BT], dim=1))
        if self.member is None:
            return states_BTD
        return torch.cat([states_BTD, self.member.prefix_states(items_BT)], dim=2)

    def encode(self, histories: Sequence[History], *, vectors_ND: Tensor | None = None) -> Tensor:
        """Return the state after each whole history (its latest ``max_history`` events), one row each.

        ``vectors_ND`` are the item vectors where the caller holds them already.
        """
        padded = pad_histories(histories, self.shape.max_history)
        items_BT, times_BT, lengths_B = (torch.from_numpy(array).to(self.device) for array in padded)
        vectors_ND = self.item_vectors() if vectors_ND is None else vectors_ND
        states_BTD = self.encode_prefixes(items_BT, times_BT, vectors_ND)
        return states_BTD[torch.arange(len(histories), device=self.device), lengths_B]

    def step(self, state_PD: Tensor, codes_PM: Tensor) -> tuple[Tensor, Tensor]:
        """Score the next token and the category of partial paths.

        Shape:
            state_PD: (paths, width or more); what a member adds is not read.
            codes_PM: (paths, codebooks), -1 where a codebook is free.
            result: logits (paths, codebooks, codes) and category logits (paths, categories).
        """
        used_PM = codes_PM >= 0
        chosen_PMC = self.code_embedding(codes_PM.clamp(min=0) + self._offsets_M()) * used_PM[..., None]
        logits, category_PQ = self.decoder(state_PD[:, : self.shape.width], chosen_PMC, used_PM.float())
        return logits.view(len(state_PD), self.config.num_codebooks, self.config.codebook_size), category_PQ

    def scaled(self, state_BD: Tensor) -> Tensor:
        """Return what gives item logits in inner products with :meth:`unit_items`: cosines over a temperature.

        Shape:
            state_BD: as :meth:`encode` returns it; the result is as wide.
        """
        width = self.shape.width
        own_BD = functional.normalize(state_BD[:, :width], dim=-1) * self.log_scale.exp().clamp(max=50.0)
        if self.member is None:
            return own_BD
        share = self.config.member_share
        return torch.cat([(1 - share) * own_BD, share * self.member.queries(state_BD[:, width:])], dim=1)

    def unit_items(self, vectors_ND: Tensor) -> Tensor:
        """Return unit item vectors, as wide as the states of :meth:`encode`, from :meth:`item_vectors`."""
        unit_ND = functional.normalize(vectors_ND, dim=-1)
        return unit_ND if self.member is None else torch.cat([unit_ND, self.member.keys()], dim=1)

    def item_log_probs(self, state_BD: Tensor, histories: Sequence[IntArray]) -> Tensor:
        """Return the item head's log-probabilities over the catalogue, shape (batch, items).

        ``histories`` are the items that the prior is asked about.
        """
        unit_ND = self.unit_items(self.item_vectors())
        return functional.log_softmax(self.item_logits(state_BD, histories, unit_ND, self.prior()), dim=-1)

    def item_logits(
        self, state_BD: Tensor, histories: Sequence[IntArray], unit_ND: Tensor, prior: CooccurrencePrior
    ) -> Tensor:
        """Return the item head's logits from what a caller computes once: :meth:`unit_items` and the prior."""
        logits_BN = torch.addmm(self.item_bias_N, self.scaled(state_BD), unit_ND.T)
        weights = ((1 - self._others_share()) * self.prior_weight_J.detach()).tolist()
        for weight, prior_BN in zip(weights, prior.scores(histories), strict=True):
            place_X, value_X = entries(prior_BN, logits_BN.device)
            logits_BN.view(-1).index_add_(0, place_X, value_X, alpha=weight)
        if self.config.repeat_bias:
            rows_X = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
            had = (torch.from_numpy(axis).to(logits_BN.device) for axis in (rows_X, np.concatenate(histories)))
            logits_BN[tuple(had)] += self.config.repeat_bias  # once, however often an item is there
        return logits_BN

    def beliefs(self, state_BD: Tensor, prior_JBN: Tensor) -> Tensor:
        """Return the item head's log-probabilities from prior scores that the caller looked up, with gradients.

        What a user already has is no special case here: the caller takes it out.

        Shape:
            state_BD: as :meth:`encode` returns it.
            prior_JBN: (windows, batch, items) what each window of a prior says.
            result: (batch, items).
        """
        unit_ND = self.unit_items(self.item_vectors())
        prior_BN = (1 - self._others_share()) * torch.einsum("j,jbn->bn", self.prior_weight_J, prior_JBN)
        return functional.log_softmax(self.scaled(state_BD) @ unit_ND.T + prior_BN + self.item_bias_N, dim=-1)

    def _others_share(self) -> float:
        """Return the share of the item logits that is not this model's own."""
        return 0.0 if self.member is None else float(self.config.member_share)

    def forward(self, items_BT: Tensor, timestamps_BT: Tensor) -> Tensor:
        """Return item log-probabilities after each prefix, shape (batch, time + 1, items)."""
        states_BTD = self.encode_prefixes(items_BT, timestamps_BT, self.item_vectors())
        prefixes = [row[:time] for row in items_BT.cpu().numpy() for time in range(items_BT.shape[1] + 1)]
        return self.item_log_probs(states_BTD.flatten(0, 1), prefixes).unflatten(0, states_BTD.shape[:2])


AutoConfig.register(GeneratorConfig.model_type, GeneratorConfig, exist_ok=True)
AutoModel.register(GeneratorConfig, Generator, exist_ok=True)
