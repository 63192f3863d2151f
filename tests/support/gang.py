"""Two processes that train together, without Ray: torch's own process group over a file."""

import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

Work = Callable[[Path], dict[str, Any]]
"""A function of a module; it is handed a folder of its worker's own."""


def together(work: Work, folder: Path, *, count: int = 2) -> list[dict[str, Any]]:
    """Run the work in so many processes of one group and return what each found."""
    start_processes(_one, args=(work, folder, count), nprocs=count, start_method="spawn")
    return [pickle.loads((folder / f"found-{rank}.pickle").read_bytes()) for rank in range(count)]


def _one(rank: int, work: Work, folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=count, timeout=timedelta(seconds=100)
    )
    own = folder / str(rank)
    own.mkdir()
    found = work(own)
    (folder / f"found-{rank}.pickle").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()
