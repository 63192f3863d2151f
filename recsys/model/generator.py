"""The generator: encodes a history, scores items, and scores the next token of a partial path in any order.

Axes: B batch row, T time, P path, M codebook, K code, N item, Q category, D width.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from recsys.contracts import History
from recsys.core.arrays import IntArray
from recsys.core.errors import ArtifactError
from recsys.model.batches import pad_histories
from recsys.model.config import GeneratorConfig, ModelConfig
from recsys.model.history_encoder import HistoryEncoder
from recsys.model.item_encoder import ItemEncoder
from recsys.model.item_head import ItemHead
from recsys.model.states import HistoryStates, PrefixStates
from recsys.model.token_decoder import TokenDecoder
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig


class Generator(PreTrainedModel):
    """REG4Rec's generative model: an item encoder, a causal history encoder, an item head and a token decoder.

    The history encoder reads a learned start vector, then one vector an item. Items and tokens are scored from the same
    state.
    """

    config_class = GeneratorConfig
    base_model_prefix = "generator"
    main_input_name = "items_BT"

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        shape = self.shape = ModelConfig(**config.shape)
        # The order of parts is the order of parameters, and so of the rounding of gradient norms.
        self.start = nn.Parameter(torch.zeros(shape.width))
        self.head = ItemHead(config)
        self.items = ItemEncoder(config, shape)
        self.history = HistoryEncoder(shape)
        self.decoder = TokenDecoder(config, shape)
        self.post_init()
        nn.init.zeros_(self.history.calendar_in.weight)
        nn.init.zeros_(self.history.calendar_out.weight)

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> "Generator":
        """Load a saved generator for use, without members that have no share, and without a progress bar.

        Raises:
            ArtifactError: the folder was written by a version whose generator had other parts.
        """
        disable_progress_bar()
        generator: Generator
        generator, found = cls.from_pretrained(folder, output_loading_info=True)
        if generator.head.members is not None and not generator.config.member_share:
            generator.head.drop_members()
        if generator.head.members is not None:
            generator.head.members.requires_grad_(False)
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

    def set_members(self, members: Sequence[tuple[IdTransformer, IdTransformerConfig]], unused_X: Tensor) -> None:
        """Give the item head its ensemble members (:meth:`ItemHead.set_members`).

        Raises:
            ValueError: one reads shorter histories than this model.
        """
        for _, config in members:
            if config.max_length < self.shape.max_history:
                raise ValueError(
                    f"an ensemble member must read histories of {self.shape.max_history} events as this model does, "
                    f"got one that reads {config.max_length}; train it with max_length={self.shape.max_history}"
                )
        self.head.set_members(members, unused_X)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.05)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    @property
    def codes_NM(self) -> Tensor:
        """Every item's codes, (items, codebooks)."""
        return self.items.codes_NM

    def encode_prefixes(
        self, items_BT: Tensor, timestamps_BT: Tensor, vectors_ND: Tensor, *, places_BT: Tensor | None = None
    ) -> PrefixStates:
        """Return the states after the start vector and after each item.

        Shape:
            items_BT: (batch, time) catalogue indices, padding (any index) on the right.
            timestamps_BT: (batch, time) seconds.
            vectors_ND: (items, width) of the item encoder.
            places_BT: (batch, time) the rows of ``vectors_ND``, where it does not hold all items.
        """
        members = self.head.members
        return PrefixStates(
            own_BTD=self.history(items_BT if places_BT is None else places_BT, timestamps_BT, vectors_ND, self.start),
            members_BTD=None if members is None else members.prefix_states(items_BT),
        )

    def encode(self, histories: Sequence[History], *, vectors_ND: Tensor | None = None) -> HistoryStates:
        """Return the state after each whole history (its latest ``max_history`` events).

        ``vectors_ND`` are the item vectors where the caller holds them already.
        """
        padded = pad_histories(histories, self.shape.max_history)
        items_BT, times_BT, lengths_B = (torch.from_numpy(array).to(self.device) for array in padded)
        prefixes = self.encode_prefixes(items_BT, times_BT, self.items() if vectors_ND is None else vectors_ND)
        return prefixes.after(torch.arange(len(histories), device=self.device), lengths_B)

    def step(self, state_PD: Tensor, codes_PM: Tensor) -> tuple[Tensor, Tensor]:
        """Score the next token and the category of partial paths.

        Shape:
            state_PD: (paths, width) the history encoder's state of each path's history.
            codes_PM: (paths, codebooks), -1 where a codebook is free.
            result: logits (paths, codebooks, codes) and category logits (paths, categories).
        """
        logits_PMK, category_PQ = self.decoder(state_PD, self.items.embed_codes(codes_PM), codes_PM >= 0)
        return logits_PMK, category_PQ

    def item_log_probs(self, states: HistoryStates, histories: Sequence[IntArray]) -> Tensor:
        """Return the item head's log-probabilities over the catalogue, shape (batch, items).

        ``histories`` are the items that the co-occurrence prior and the bias of repeats read.
        """
        keys_ND = self.head.keys(self.items())
        logits_BN = self.head.logits(states, keys_ND, self.head.prior().scores(histories))
        return functional.log_softmax(self.head.add_repeat_bias(logits_BN, histories), dim=-1)

    def forward(self, items_BT: Tensor, timestamps_BT: Tensor) -> Tensor:
        """Return item log-probabilities after each prefix, shape (batch, time + 1, items)."""
        prefixes = self.encode_prefixes(items_BT, timestamps_BT, self.items())
        rows, steps = prefixes.own_BTD.shape[:2]
        row_B, length_B = torch.meshgrid(torch.arange(rows), torch.arange(steps), indexing="ij")
        states = prefixes.after(row_B.flatten().to(self.device), length_B.flatten().to(self.device))
        read = [row[:time] for row in items_BT.cpu().numpy() for time in range(steps)]
        return self.item_log_probs(states, read).unflatten(0, (rows, steps))


AutoConfig.register(GeneratorConfig.model_type, GeneratorConfig, exist_ok=True)
AutoModel.register(GeneratorConfig, Generator, exist_ok=True)
