"""From torch's models to the weights that the runtime reads. The one module of the runtime that imports torch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys.core.arrays import FloatArray, IntArray
from recsys.model.blocks import GAP_BUCKETS, CausalEncoder, gap_buckets
from recsys.model.cooccurrence_prior import FLOOR, WINDOWS, CooccurrencePrior
from recsys.model.generator import Generator
from recsys.model.item_head import MAX_SCALE, ItemHead
from recsys.model.token_decoder import TokenDecoder
from recsys.model.tokens.mixture import TokenMixture
from recsys.model.tokens.network import LONGEST_QUERY, TokenModel
from recsys.runtime.compiled import aligned
from recsys.runtime.encoder import Encoder
from recsys.runtime.experts import Expert, ExpertWeights
from recsys.runtime.head import ItemTable, Prior
from recsys.runtime.weights import GeneratorWeights, HistoryWeights, MemberWeights, TokenDecoderWeights
from recsys.sequence.id_transformer import IdTransformer

_LONGEST_GAP = 1 << 62


@torch.no_grad()
def export_generator(generator: Generator) -> GeneratorWeights:
    """Return a generator's weights; members without a share are left out."""
    generator = generator.eval()
    head, vectors_ND = generator.head, generator.items()
    share = 0.0 if head.members is None else generator.config.member_share
    networks = [] if head.members is None or not share else list(head.members.networks)
    keys_ND = head.keys(vectors_ND) if share else nn.functional.normalize(vectors_ND, dim=-1)
    return GeneratorWeights(
        history=_history(generator, vectors_ND),
        members=tuple(_member(network, share / len(networks)) for network in networks),
        decoder=_decoder(generator.decoder, generator.items.code_embedding),
        table=ItemTable(
            keys_ND=_array(keys_ND), bias_N=_array(head.bias_N), repeat_bias=_number(generator.config.repeat_bias)
        ),
        prior=export_prior(head.prior(), _array((1 - share) * head.prior_weight_J), len(vectors_ND)),
        max_history=generator.shape.max_history,
        num_codebooks=generator.items.layout.num_codebooks,
    )


def export_prior(prior: CooccurrencePrior, weight_J: FloatArray, num_items: int) -> Prior:
    """Return the tables of a prior, one after another; a model without a prior has no windows.

    Shape:
        weight_J: (windows,).
    """
    windows = WINDOWS[: len(prior.tables)]
    first_J = np.cumsum([0, *(table.nnz for table in prior.tables)])
    starts = [table.indptr.astype(np.int64) + first for table, first in zip(prior.tables, first_J, strict=False)]
    return Prior(
        starts_JN1=np.stack(starts) if starts else np.zeros((0, num_items + 1), np.int64),
        items_X=np.concatenate([np.empty(0, np.int32), *(table.indices.astype(np.int32) for table in prior.tables)]),
        values_X=np.concatenate([np.empty(0, np.float32), *(table.data for table in prior.tables)]),
        last_J=np.array([window.last for window in windows], np.int64),
        decay_J=np.array([window.decay for window in windows], np.float64),
        weight_J=weight_J[: len(windows)],
        floor=_number(FLOOR),
    )


@torch.no_grad()
def export_experts(mixture: TokenMixture) -> list[Expert]:
    """Return the experts of a mixture, without the items' codes: those are the catalogue's."""
    return [
        Expert(
            name=name,
            codebooks=owner,
            num_codebooks=model.layout.num_codebooks,
            max_history=model.config.max_history,
            weights=_expert(model),
        )
        for (name, owner), model in zip(mixture.codebooks.items(), mixture.models(), strict=True)
    ]


def _expert(model: TokenModel) -> ExpertWeights:
    return ExpertWeights(
        input_KD=_array(model.code_in),
        start_D=_array(model.start),
        calendar_ED=_array(model.calendar.weight),
        calendar_edges_E=model.calendar_edges.cpu().numpy(),
        query_DV=_array(model.query.weight.T),
        query_bias_V=_array(model.query.bias),
        scale=_number(float(model.log_scale.exp().clamp(max=LONGEST_QUERY))),
        transition_TF=_array(torch.zeros(0, 0) if model.transition_TF is None else model.transition_TF),
        output_KD=_array(model.code_out),
        encoder=export_causal(model.encoder),
    )


def export_causal(encoder: CausalEncoder) -> Encoder:
    """Return the weights of an encoder with time gaps."""
    blocks: list[Any] = list(encoder.blocks)
    return _encoder(
        [(block.qkv.weight, block.qkv.bias) for block in blocks],
        [block.out for block in blocks],
        [(block.norm_attention, block.norm_feed) for block in blocks],
        [(block.feed[0], block.feed[3]) for block in blocks],
        encoder.norm,
        position_bias_HT=_array(encoder.position_bias.weight.T),
        gap_bias_HZ=_array(encoder.gap_bias.weight.T),
    )


def _member(member: IdTransformer, share: float) -> MemberWeights:
    blocks: list[Any] = list(member.layers.layers)
    heads, width = blocks[0].self_attn.num_heads, member.items.embedding_dim
    encoder = _encoder(
        [(block.self_attn.in_proj_weight, block.self_attn.in_proj_bias) for block in blocks],
        [block.self_attn.out_proj for block in blocks],
        [(block.norm1, block.norm2) for block in blocks],
        [(block.linear1, block.linear2) for block in blocks],
        member.layers.norm,
        position_bias_HT=np.zeros((heads, 0), np.float32),
        gap_bias_HZ=np.zeros((heads, 0), np.float32),
    )
    return MemberWeights(
        item_ND=_array(member.items.weight * width**0.5),
        position_TD=_array(member.positions.weight),
        scale=_number(float(member.log_scale.exp()) if member.cosine else 0.0),
        share=_number(share),
        encoder=encoder,
    )


def _history(generator: Generator, vectors_ND: Tensor) -> HistoryWeights:
    history, head = generator.history, generator.head
    return HistoryWeights(
        item_ND=_array(generator.shape.input_scale * vectors_ND),
        start_D=_array(generator.start),
        calendar_in_ED=_array(history.calendar_in.weight),
        calendar_out_ED=_array(history.calendar_out.weight),
        calendar_edges_E=history.calendar_edges.cpu().numpy(),
        scale=_number(_own_scale(head)),
        encoder=export_causal(history.blocks),
    )


def _own_scale(head: ItemHead) -> float:
    share = 0.0 if head.members is None else head.config.member_share
    return (1 - share) * float(head.log_scale.exp().clamp(max=MAX_SCALE))


def _decoder(decoder: TokenDecoder, code_embedding: nn.Embedding) -> TokenDecoderWeights:
    hidden: Any = decoder.hidden[2]
    return TokenDecoderWeights(
        code_KW=_array(code_embedding.weight),
        state_DV=_array(decoder.from_state.weight.T),
        state_bias_V=_array(decoder.from_state.bias),
        codes_XV=_array(decoder.from_codes.weight.T),
        used_MV=_array(decoder.from_mask.weight.T),
        hidden_VD=_array(hidden.weight.T),
        hidden_bias_D=_array(hidden.bias),
        scale_D=_array(decoder.norm.weight),
        shift_D=_array(decoder.norm.bias),
        token_DK=_array(decoder.token_head.weight.T),
        token_bias_K=_array(decoder.token_head.bias),
        category_DQ=_array(decoder.category_head.weight.T),
        category_bias_Q=_array(decoder.category_head.bias),
    )


def _encoder(  # noqa: PLR0913 (the parts of two kinds of layers)
    joint: list[tuple[Tensor, Tensor]],
    out: list[Any],
    norms: list[tuple[Any, Any]],
    feeds: list[tuple[Any, Any]],
    final: Any,
    *,
    position_bias_HT: FloatArray,
    gap_bias_HZ: FloatArray,
) -> Encoder:
    width = joint[0][0].shape[1]
    return Encoder(
        query_YDD=_stack([weight[:width].T for weight, _ in joint]),
        query_bias_YD=_stack([bias[:width] for _, bias in joint]),
        key_value_YDX=_stack([weight[width:].T for weight, _ in joint]),
        key_value_bias_YX=_stack([bias[width:] for _, bias in joint]),
        out_YDD=_stack([layer.weight.T for layer in out]),
        out_bias_YD=_stack([layer.bias for layer in out]),
        attention_scale_YD=_stack([norm.weight for norm, _ in norms]),
        attention_shift_YD=_stack([norm.bias for norm, _ in norms]),
        up_YDV=_stack([up.weight.T for up, _ in feeds]),
        up_bias_YV=_stack([up.bias for up, _ in feeds]),
        down_YVD=_stack([down.weight.T for _, down in feeds]),
        down_bias_YD=_stack([down.bias for _, down in feeds]),
        feed_scale_YD=_stack([norm.weight for _, norm in norms]),
        feed_shift_YD=_stack([norm.bias for _, norm in norms]),
        final_scale_D=_array(final.weight),
        final_shift_D=_array(final.bias),
        position_bias_HT=position_bias_HT,
        gap_bias_HZ=gap_bias_HZ,
        gap_seconds_Z=_gap_seconds(),
    )


def _gap_seconds() -> IntArray:
    """Return the least gap of each bucket but the first, found by bisection in the model's own arithmetic."""
    found = []
    for bucket in range(1, GAP_BUCKETS):
        low, high = 0, _LONGEST_GAP
        while low < high:
            middle = (low + high) // 2
            inside = int(gap_buckets(torch.tensor([[0, middle]]))[0, 1, 0]) >= bucket
            low, high = (low, middle) if inside else (middle + 1, high)
        found.append(low)
    return np.array(found, np.int64)


def _stack(tensors: list[Tensor]) -> FloatArray:
    return _array(torch.stack(tensors))


def _array(tensor: Tensor) -> FloatArray:
    return aligned(tensor.detach().float().cpu().numpy())


def _number(value: float) -> FloatArray:
    return np.array([value], np.float32)
