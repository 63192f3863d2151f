"""The generator as a causal language model over code and codebook tokens, as trl's trainer wants one.

A sequence is a prompt token (an index into the bound prompts) and then, step by step, the codebook that was
chosen and the code chosen from it. Token ids: 0..K-1 codes, K..K+M-1 codebooks, then padding and end.

Axes: R row (a path), S step, T token, V vocabulary, M codebook, K code, Q category, D width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from recsys.codes.validity import ValidityIndex
from recsys.contracts import History
from recsys.model.generator import Generator

BARRED = -1e4
"""Logit of a token that may not follow; its probability underflows to exactly zero."""


class PathPolicyConfig(PretrainedConfig):
    """Sizes of the path policy's vocabulary."""

    model_type = "recsys_path_policy"

    def __init__(self, *, num_codebooks: int = 1, codebook_size: int = 2, **kwargs: Any) -> None:
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.vocab_size = num_codebooks + codebook_size + 2
        self.hidden_size = self.vocab_size
        super().__init__(**kwargs)


class PathBackbone(nn.Module):
    """Turns a sequence into the masked logits of each next token."""

    def __init__(
        self, generator: Generator, validity: ValidityIndex, histories: Sequence[History], *, vocabulary: int
    ) -> None:
        super().__init__()
        self.generator = generator
        self.validity = validity
        self.histories = histories
        self.vocabulary = vocabulary

    def encode_prompts(self, prompt_R: Tensor) -> Tensor:
        """Return the state of each row's history, encoding each distinct prompt once; shape (rows, width)."""
        distinct, row_R = torch.unique(prompt_R, return_inverse=True)
        state: Tensor = self.generator.encode([self.histories[int(prompt)] for prompt in distinct])
        return state[row_R]

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """Return the masked logits of each next token as ``last_hidden_state``, (rows, tokens, vocabulary).

        Code positions carry their codebook's logits masked to the codes some item still has given the prefix;
        codebook positions are certain, for the order is a function of the state and not sampled.
        """
        size = self.generator.config.codebook_size
        book_RS, code_RS = input_ids[:, 1::2] - size, input_ids[:, 2::2]
        rows, steps = code_RS.shape
        logits_RSK = path_logits(
            self.generator, self.encode_prompts(input_ids[:, 0]), book_RS, code_RS, validity=self.validity
        )
        hidden_RTV = logits_RSK.new_full((rows, input_ids.shape[1], self.vocabulary), BARRED)
        hidden_RTV[:, 1 : 2 * steps : 2, :size] = logits_RSK
        hidden_RTV[:, 0 : 2 * steps : 2].scatter_(2, (book_RS + size)[..., None], 0.0)
        return BaseModelOutput(last_hidden_state=hidden_RTV)


class PathPolicy(PreTrainedModel):
    """A generator, bound to a validity index and to prompts, that trl can train as a language model.

    The generator is shared, not copied, and stays in evaluation mode: without dropout a path's probability in
    training is the probability it was sampled with.
    """

    config_class = PathPolicyConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"

    def __init__(self, generator: Generator, *, validity: ValidityIndex, histories: Sequence[History]) -> None:
        sizes = generator.config
        super().__init__(PathPolicyConfig(num_codebooks=sizes.num_codebooks, codebook_size=sizes.codebook_size))
        vocabulary = self.config.vocab_size
        self.backbone = PathBackbone(generator, validity, histories, vocabulary=vocabulary)
        self.head = nn.Linear(vocabulary, vocabulary, bias=False, device=generator.device)
        self.head.weight.data.copy_(torch.eye(vocabulary))
        self.head.weight.requires_grad_(False)
        self.generation_config = GenerationConfig()
        self.train(False)

    def train(self, mode: bool = True) -> "PathPolicy":
        """Switch the wrapper's mode; the generator's dropout stays off."""
        super().train(mode)
        self.backbone.generator.eval()
        return self

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Never: paths are short. trl reads this name, which warns where transformers has renamed it."""
        return False

    def get_output_embeddings(self) -> nn.Module:
        """Return the head, a frozen identity: the hidden state is the logits already."""
        return self.head

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        """Return the masked logits of each next token, shape (rows, tokens, vocabulary)."""
        return CausalLMOutput(logits=self.head(self.backbone(input_ids).last_hidden_state))


def path_logits(
    generator: Generator, state_RD: Tensor, book_RS: Tensor, code_RS: Tensor, *, validity: ValidityIndex
) -> Tensor:
    """Return the masked logits of the chosen codebook before every step of known paths, all steps at once.

    Shape:
        state_RD: (rows, width) the state of each path's history.
        book_RS, code_RS: (rows, steps) the path in the order it was chosen.
        result: (rows, steps, codes), ``BARRED`` where no item has the code and the prefix.
    """
    rows, steps = code_RS.shape
    codes_RSM = _prefixes(book_RS, code_RS, generator.config.num_codebooks)
    logits, _ = generator.step(state_RD.repeat_interleave(steps, dim=0), codes_RSM.flatten(0, 1))
    logits_RSMK = logits.view(rows, steps, *logits.shape[1:])
    chosen = book_RS[:, :, None, None].expand(-1, -1, 1, logits.shape[2])
    logits_RSK = logits_RSMK.gather(2, chosen).squeeze(2)
    return logits_RSK.masked_fill(~_allowed_along(book_RS, code_RS, validity), BARRED)


def _prefixes(book_RS: Tensor, code_RS: Tensor, num_codebooks: int) -> Tensor:
    """Return the partial path before each step, -1 where free, shape (rows, steps, codebooks)."""
    rows, steps = code_RS.shape
    codes_RSM = code_RS.new_full((rows, steps, num_codebooks), -1)
    for step in range(1, steps):
        codes_RSM[:, step] = codes_RSM[:, step - 1].scatter(1, book_RS[:, step - 1 : step], code_RS[:, step - 1 : step])
    return codes_RSM


def _allowed_along(book_RS: Tensor, code_RS: Tensor, validity: ValidityIndex) -> Tensor:
    """Return which codes of the chosen codebook were allowed before each step, shape (rows, steps, codes)."""
    books, codes = book_RS.cpu().numpy(), code_RS.cpu().numpy()
    rows = torch.arange(len(books))
    candidates = validity.start(len(books))
    masks = []
    for step in range(books.shape[1]):
        if step:
            candidates = validity.choose(candidates, rows.numpy(), books[:, step - 1], codes[:, step - 1])
        allowed_RMK = torch.from_numpy(np.array(validity.allowed(candidates)))
        masks.append(allowed_RMK[rows, torch.as_tensor(books[:, step])])
    return torch.stack(masks, dim=1).to(book_RS.device)
