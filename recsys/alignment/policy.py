"""The generator as a causal language model over code and codebook tokens, as trl's trainers take one.

A sequence is a prompt token (an index into the bound prompts) and then, step by step, the codebook that was
chosen and the code chosen from it. Token ids: 0..K-1 codes, K..K+M-1 codebooks, then padding and end.

Axes: R training row (a sampled path), B distinct prompt, O choice of a path in the order chosen, T token, V vocabulary,
M codebook, K code, N item, Q category, D width, C candidate item of a path.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from recsys.alignment.prompts import PromptTable
from recsys.codes.validity import Candidates, ValidityIndex
from recsys.core.arrays import BoolArray
from recsys.model.generator import Generator
from recsys.model.partial import items_of, path_of, sum_by_code, sum_remaining
from recsys.model.states import HistoryStates

BARRED = -1e4
"""Logit of a token that may not follow; its probability underflows to exactly zero."""
_FLOOR = 1e-30


class PathPolicyConfig(PretrainedConfig):
    """Sizes of the path policy's vocabulary."""

    model_type = "recsys_path_policy"

    def __init__(self, *, num_codebooks: int = 1, codebook_size: int = 2, **kwargs: Any) -> None:
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.vocab_size = num_codebooks + codebook_size + 2
        self.hidden_size = self.vocab_size
        super().__init__(**kwargs)


@dataclass(frozen=True, kw_only=True)
class PromptState:
    """The encoded histories and item probabilities of rows before their first step; rows of one prompt share them.

    Shape:
        states: each row's history, encoded.
        prob_BN: (prompts, items) the item head's probabilities.
        prompt_R: (rows,) each row's place among the distinct prompts.
        new_BN: (prompts, items) which items the user does not have yet.
    """

    states: HistoryStates
    prob_BN: Tensor
    prompt_R: Tensor
    new_BN: BoolArray


class PathBackbone(nn.Module):
    """Turns a sequence into the masked logits of each next token.

    A step mixes the token heads with the item head's probabilities of the codes that remain, by the same rule as the
    decoder (``guidance``): what is aligned is what is served, and rewards reach the item head.
    """

    def __init__(
        self,
        generator: Generator,
        validity: ValidityIndex,
        prompts: PromptTable,
        *,
        vocabulary: int,
        guidance: float,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.validity = validity
        self.prompts = prompts
        self.vocabulary = vocabulary
        self.guidance = guidance

    def prompt_state(self, prompt_R: Tensor) -> PromptState:
        """Return the state of rows before their first step; each distinct prompt is encoded once."""
        distinct, row_R = torch.unique(prompt_R, return_inverse=True)
        prompt_B = distinct.cpu().numpy()
        generator = self.generator
        states = generator.encode([self.prompts.histories[prompt] for prompt in prompt_B.tolist()])
        # Item vectors anew: with dropout, the items that are scored and those that are read have masks of their own.
        keys_ND = generator.head.keys(generator.items())
        logits_BN = generator.head.logits(states, keys_ND, self.prompts.prior_scores_of(prompt_B))
        new_BN = self.prompts.new_to(prompt_B)
        prob_BN = logits_BN.softmax(-1)
        prob_BN = prob_BN.masked_fill(~torch.from_numpy(new_BN).to(prob_BN.device), 0.0)
        return PromptState(states=states.take(row_R), prob_BN=prob_BN, prompt_R=row_R, new_BN=new_BN)

    def start(self, state: PromptState) -> Candidates:
        """Return the candidates of each row before its first step: all items that the user does not have."""
        row_R = state.prompt_R.cpu().numpy()
        return self.validity.start(len(state.new_BN), state.new_BN).take(row_R)

    def step(self, state: PromptState, codes_RM: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """Score the next step of partial paths.

        Shape:
            codes_RM: (rows, codebooks), -1 where a codebook is free.
            result: logits (rows, codebooks, codes), ``BARRED`` where no remaining item has the code; which codes are
            allowed, of the same shape; category logits (rows, categories).
        """
        logits_RMK, category_RQ = self.generator.step(state.states.own_BD, codes_RM)
        allowed_RMK = torch.from_numpy(np.array(self.validity.allowed(candidates))).to(logits_RMK.device)
        if self.guidance > 0:
            implied_RMK = self._implied(state, candidates, logits_RMK.shape[2]).clamp(min=_FLOOR).log()
            logits_RMK = (1 - self.guidance) * logits_RMK + self.guidance * implied_RMK
        return logits_RMK.masked_fill(~allowed_RMK, BARRED), allowed_RMK, category_RQ

    def _implied(self, state: PromptState, candidates: Candidates, codes: int) -> Tensor:
        """Return the probability of the remaining items that have each code, (rows, codebooks, codes)."""
        device = state.prob_BN.device
        codes_MN = self.generator.codes_NM.T
        if candidates.at_root:
            return sum_by_code(state.prob_BN, codes_MN, codes)[state.prompt_R]
        prompt_C = state.prompt_R[path_of(candidates, device)]
        prob_C = state.prob_BN[prompt_C, items_of(candidates, device)]
        return sum_remaining(candidates, prob_C, codes_MN, codes)

    def along(self, prompt_R: Tensor, book_RO: Tensor, code_RO: Tensor) -> Tensor:
        """Return the masked logits of the chosen codebook before every step of known paths.

        Shape:
            book_RO, code_RO: (rows, steps) the paths in the order they were chosen.
            result: (rows, steps, codes).
        """
        state = self.prompt_state(prompt_R)
        rows = torch.arange(len(prompt_R), device=prompt_R.device)
        codes_RM = torch.full((len(rows), self.validity.num_codebooks), -1, device=prompt_R.device)
        candidates = self.start(state)
        logits = []
        for book_R, code_R in zip(book_RO.T, code_RO.T, strict=True):
            logits_RMK, _, _ = self.step(state, codes_RM, candidates)
            logits.append(logits_RMK[rows, book_R])
            codes_RM, candidates = self.chosen(codes_RM, candidates, book_R, code_R)
        return torch.stack(logits, dim=1)

    def chosen(
        self, codes_RM: Tensor, candidates: Candidates, book_R: Tensor, code_R: Tensor
    ) -> tuple[Tensor, Candidates]:
        """Return the paths and their candidates after one more choice each."""
        rows = np.arange(len(codes_RM))
        left = self.validity.choose(candidates, rows, book_R.cpu().numpy(), code_R.cpu().numpy())
        return codes_RM.scatter(1, book_R[:, None], code_R[:, None]), left

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """Return the masked logits of each next token as ``last_hidden_state``, (rows, tokens, vocabulary).

        Code positions carry their codebook's logits masked to the codes some item still has given the prefix;
        codebook positions are certain, for the order is a function of the state and not sampled.
        """
        size = self.generator.config.codebook_size
        book_RO, code_RO = input_ids[:, 1::2] - size, input_ids[:, 2::2]
        rows, steps = code_RO.shape
        logits_ROK = self.along(input_ids[:, 0], book_RO, code_RO)
        hidden_RTV = logits_ROK.new_full((rows, input_ids.shape[1], self.vocabulary), BARRED)
        hidden_RTV[:, 1 : 2 * steps : 2, :size] = logits_ROK
        hidden_RTV[:, 0 : 2 * steps : 2].scatter_(2, (book_RO + size)[..., None], 0.0)
        return BaseModelOutput(last_hidden_state=hidden_RTV)


class PathPolicy(PreTrainedModel):
    """A generator, bound to a validity index and to prompts, that trl can train as a language model.

    The generator is shared, not copied. Without dropout a path's probability in training is the probability it was
    sampled with; with it, training scores the path with dropout and sampling does not.
    """

    config_class = PathPolicyConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"

    def __init__(
        self,
        generator: Generator,
        *,
        validity: ValidityIndex,
        prompts: PromptTable,
        guidance: float,
        dropout: bool = False,
    ) -> None:
        sizes = generator.config
        self.dropout = dropout
        super().__init__(PathPolicyConfig(num_codebooks=sizes.num_codebooks, codebook_size=sizes.codebook_size))
        vocabulary = self.config.vocab_size
        self.backbone = PathBackbone(generator, validity, prompts, vocabulary=vocabulary, guidance=guidance)
        self.head = nn.Linear(vocabulary, vocabulary, bias=False, device=generator.device)
        self.head.weight.data.copy_(torch.eye(vocabulary))
        self.head.weight.requires_grad_(False)
        self.generation_config = GenerationConfig()
        self.train(False)

    def of(self, generator: Generator) -> "PathPolicy":
        """Return a frozen policy of another generator, bound to the same prompts: a reference."""
        backbone = self.backbone
        other = PathPolicy(generator, validity=backbone.validity, prompts=backbone.prompts, guidance=backbone.guidance)
        other.requires_grad_(False)
        return other

    def train(self, mode: bool = True) -> "PathPolicy":
        """Switch the mode; the generator's too where ``dropout`` is on."""
        super().train(mode)
        self.backbone.generator.train(mode and self.dropout)
        return self

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Always False: paths are short. trl reads this name, and newer transformers warn about theirs."""
        return False

    def get_output_embeddings(self) -> nn.Module:
        """Return the head, a frozen identity: the hidden state is the logits already."""
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        """Return the masked logits of each next token, shape (rows, tokens, vocabulary)."""
        return CausalLMOutput(logits=self.head(self.backbone(input_ids).last_hidden_state))
