"""What both trl trainers share: common settings, a tokenizer, progress, checkpoints to go on from."""

import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainerState, TrainingArguments

from recsys.alignment.config import AlignmentConfig
from recsys.core.errors import CallError
from recsys.core.seeds import derive_seed
from recsys.core.telemetry import LOG, track
from recsys.core.workers import Workers

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


class Progress(TrainerCallback):
    """Steps the project's progress display, from where a resumed training goes on."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._ticks: Iterator[int] = iter(())

    def on_train_begin(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        """Open the display."""
        done = state.global_step
        self._ticks = track(range(done, self._steps), what="alignment", total=self._steps, done=done)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Advance by one."""
        next(self._ticks, None)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the display."""
        next(self._ticks, None)


def path_tokenizer(num_codebooks: int, codebook_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer over the names of code and codebook tokens; trl decodes completions with it."""
    names = [f"c{code}" for code in range(codebook_size)] + [f"b{book}" for book in range(num_codebooks)]
    vocabulary = {name: token for token, name in enumerate([*names, "<pad>", "<eos>"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )


def prompt_rows(count: int, workers: Workers) -> Dataset:
    """Return a worker's prompts as trl reads them: each is its own number."""
    return Dataset.from_dict({"prompt": [str(index) for index in range(workers.rank, count, workers.count)]})


def own_prompts(config: AlignmentConfig, workers: Workers) -> int:
    """Return how many prompts of each step are a worker's: those of all workers are the step's.

    Raises:
        CallError: there are fewer prompts than workers.
    """
    if config.prompts_per_step < workers.count:
        raise CallError(
            f"alignment.prompts_per_step must be at least the number of workers, got {config.prompts_per_step} "
            f"for {workers.count}; raise it, or train with fewer workers"
        )
    return len(range(workers.rank, config.prompts_per_step, workers.count))


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Hide from accelerate in the block that there are other workers; it would wrap the model to add gradients itself.

    Its wrapper (DistributedDataParallel) counts the uses of weights in one forward pass; the supervised loss uses them
    outside of it.
    """
    hidden = {name: os.environ.pop(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def common_settings(
    config: AlignmentConfig, *, seed: int, device: torch.device, folder: str, workers: Workers
) -> dict[str, Any]:
    """Return the settings that both trainers share: fixed steps, no dropout, checkpoints of one worker, no reports."""
    return {
        "output_dir": folder,
        "seed": derive_seed(seed, "alignment", "trainer"),
        "max_steps": config.steps,
        "gradient_accumulation_steps": 1,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.steps // 20 if config.schedule == "cosine" else 0,
        "disable_dropout": False,  # the policy keeps its generator in evaluation mode itself
        _checkpointing_setting(): False,
        "bf16": False,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": False,
        "save_strategy": "steps" if workers.first else "no",
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "log_level": "error",
    }


def _checkpointing_setting() -> str:
    """Return the name of the activation checkpointing setting in this version of transformers; the old name warns."""
    names = {setting.name for setting in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end and can be read: its state is the file written last."""
    numbered = {
        int(path.parent.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*/trainer_state.json")
    }
    for _, path in sorted(numbered.items(), reverse=True):
        try:
            json.loads(path.read_text())
            torch.load(path.with_name("optimizer.pt"), weights_only=True, map_location="cpu")
        except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
            LOG.warning("%s cannot be read (%s), the checkpoint before it is used", path.parent, type(error).__name__)
            continue
        return str(path.parent)
    return None
