"""How a causal Transformer over item ids learns from a log: a softmax over items at every position.

Axes: B sequence, T time, R training row (a position with a next item), X drawn item.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.core.arrays import IntArray
from recsys.core.device import Precision, product_dtype
from recsys.core.seeds import derive_seed, rng_for
from recsys.data.events import EventLog
from recsys.data.splits import Questions
from recsys.sequence.id_transformer import IdTransformer, IdTransformerConfig, score_histories
from recsys.sequence.softmax import Answers, catalogue_cross_entropy
from recsys.sequence.training import train_best_epoch
from recsys.sequence.validation import mean_ndcg
from recsys.sequence.windows import Windows


def next_item_loss(
    network: IdTransformer,
    items_BT: Tensor,
    lengths_B: Tensor,
    rng: np.random.Generator,
    negatives: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the mean cross-entropy of every valid position's next item, against all items or drawn ones.

    The matrix products of the softmax over all items run in ``dtype``.

    Shape:
        items_BT: (windows, longest), padded on the right.
        lengths_B: (windows,).
    """
    device = network.log_scale.device
    items_BT = items_BT.to(device)
    valid_BT = (torch.arange(items_BT.shape[1] - 1) < (lengths_B - 1)[:, None]).to(device)
    hidden_RD, targets_R = network(items_BT[:, :-1])[valid_BT], items_BT[:, 1:][valid_BT]
    num_items = len(network.items.weight)
    if not 0 < negatives < num_items:
        answers = Answers.single(targets_R, absent_X=targets_R[:0])
        return catalogue_cross_entropy(network.queries(hidden_RD), network.keys(), answers, dtype=dtype)
    drawn_X = torch.from_numpy(rng.choice(num_items, negatives, replace=False)).to(device)
    logits_RX = network.logits(hidden_RD, drawn_X).masked_fill(targets_R[:, None] == drawn_X, float("-inf"))
    own_R1 = network.own_logits(hidden_RD, targets_R)[:, None]
    first_R = torch.zeros(len(targets_R), dtype=torch.long, device=device)
    return functional.cross_entropy(torch.cat([own_R1, logits_RX], dim=1), first_R)


def fit_id_transformer(  # noqa: PLR0913 (log, settings, device, validation)
    log: EventLog,
    config: IdTransformerConfig,
    *,
    seed: int,
    name: str,
    device: torch.device,
    validation: Questions | None = None,
    checkpoint: Path | None = None,
    precision: Precision = "fp32",
) -> IdTransformer:
    """Train a network on a log, ready for use; with validation questions the epoch with the best NDCG@10 is kept.

    ``name`` is shown with the progress and makes the random draws its own. A killed training that is started again
    with the same checkpoint file goes on from its last validation. ``precision`` is that of the matrix products of a
    softmax over all items.

    Raises:
        ValueError: no user has two training events.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, name))
        network = IdTransformer(config, log.num_items).to(device)
        _train(
            network,
            log,
            config,
            seed=seed,
            name=name,
            validation=validation,
            checkpoint=checkpoint,
            precision=precision,
        )
    return network.eval()


def go_on_training(  # noqa: PLR0913 (the arguments of fit_id_transformer)
    network: IdTransformer,
    log: EventLog,
    config: IdTransformerConfig,
    *,
    seed: int,
    name: str,
    validation: Questions | None = None,
    precision: Precision = "fp32",
) -> IdTransformer:
    """Train a network further on a log, in place; with validation questions the best NDCG@10 is kept, the start's too.

    Raises:
        ValueError: no user has two training events.
    """
    device = network.log_scale.device
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    start = -1.0 if validation is None else _validate(network.eval(), config, validation, seed, name)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, name, "further"))
        _train(network, log, config, seed=seed, name=name, validation=validation, precision=precision)
    if validation is not None and _validate(network.eval(), config, validation, seed, name) < start:
        network.load_state_dict(before)
    return network.eval()


def _train(  # noqa: PLR0913 (the arguments of fit_id_transformer)
    network: IdTransformer,
    log: EventLog,
    config: IdTransformerConfig,
    *,
    seed: int,
    name: str,
    validation: Questions | None,
    precision: Precision,
    checkpoint: Path | None = None,
) -> None:
    windows, rng = Windows.of(log, config.max_length), rng_for(seed, f"{name}-batches")
    dtype = product_dtype(precision, network.log_scale.device)

    def loss(group: IntArray, draws: np.random.Generator) -> Tensor:
        return next_item_loss(network, *windows.padded(group), draws, config.negatives, dtype=dtype)

    train_best_epoch(
        network,
        config,
        rng,
        lengths=windows.lengths_W - 1,
        loss=loss,
        validate=None if validation is None else lambda: _validate(network, config, validation, seed, name),
        name=name,
        checkpoint=checkpoint,
    )


def _validate(network: IdTransformer, config: IdTransformerConfig, questions: Questions, seed: int, name: str) -> float:
    """Return NDCG@10 with seen items removed on a fixed sample of users."""
    users = rng_for(seed, f"{name}-validation").permutation(len(questions.targets_U))[: config.max_validation_users]
    histories = [questions.histories[user] for user in users.tolist()]
    return mean_ndcg(lambda batch: score_histories(network, config, batch), histories, questions.targets_U[users])
