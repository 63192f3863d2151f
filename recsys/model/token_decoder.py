"""The any-order token decoder: a feed-forward network over a history's state and the codes chosen so far.

Axes: P path, M codebook, K code, Q category, D width, W code width.
"""

from torch import Tensor, nn

from recsys.model.config import GeneratorConfig, ModelConfig


class TokenDecoder(nn.Module):
    """Scores all codebooks' codes and the category, given a history's state and the codes chosen so far."""

    def __init__(self, config: GeneratorConfig, shape: ModelConfig) -> None:
        super().__init__()
        tokens = config.num_codebooks * config.codebook_size
        self.codebook_size = config.codebook_size
        self.from_state = nn.Linear(shape.width, shape.decoder_width)
        self.from_codes = nn.Linear(config.num_codebooks * shape.code_width, shape.decoder_width, bias=False)
        self.from_mask = nn.Linear(config.num_codebooks, shape.decoder_width, bias=False)
        self.hidden = nn.Sequential(nn.GELU(), nn.Dropout(shape.dropout), nn.Linear(shape.decoder_width, shape.width))
        self.norm = nn.LayerNorm(shape.width)
        self.token_head = nn.Linear(shape.width, tokens)
        self.category_head = nn.Linear(shape.width, config.num_categories)

    def forward(self, state_PD: Tensor, chosen_PMW: Tensor, used_PM: Tensor) -> tuple[Tensor, Tensor]:
        """Return token logits (paths, codebooks, codes) and category logits (paths, categories).

        Shape:
            state_PD: (paths, width).
            chosen_PMW: (paths, codebooks, code width) embeddings of the chosen codes, zero where a codebook is free.
            used_PM: (paths, codebooks) True where a code is chosen.
        """
        mixed = self.from_state(state_PD) + self.from_codes(chosen_PMW.flatten(1)) + self.from_mask(used_PM.float())
        g_PD = self.norm(state_PD + self.hidden(mixed))
        return self.token_head(g_PD).unflatten(1, (-1, self.codebook_size)), self.category_head(g_PD)
