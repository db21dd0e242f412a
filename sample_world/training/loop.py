"""The loop that all trainers share: a time budget, EMA, bf16, checkpoints that a killed run takes up again."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.models.calls import device

SEED: Final = 20_260
LOG_EVERY_S: Final = 15.0
SAVE_EVERY_S: Final = 150.0
GRADIENT_CLIP: Final = 1.0
_log = logging.getLogger(__name__)


class Learner(Protocol):
    """One model's training: what learns, how fast, and the loss of a step."""

    models: nn.ModuleDict
    learning_rate: float
    weight_decay: float
    schedule: str
    ema_decay: float
    autocast: bool

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """The scalar loss of one batch drawn with `rng`; `progress` is the part of the budget that is spent, 0 to 1."""
        ...


def train(
    learner: Learner,
    folder: Path,
    minutes: float,
    max_steps: int | None = None,
    on_save: Callable[[], None] | None = None,
) -> int:
    """Train until `minutes` of training in all are spent, counted over every earlier run that left a checkpoint here.

    Minutes on a CPU are this thread's own, so that a shared or paused machine makes a training longer and no worse.

    Args:
        learner: its `models` are trained in place.
        folder: holds `checkpoint.pt` (models, EMA, optimiser, step, seconds) and `loss.png`.
        minutes: the budget; the learning rate's schedule ends with it.
        max_steps: stop after this step too; for tests.
        on_save: called after each checkpoint, so that what is usable can be exported early.

    Returns:
        The number of steps taken in all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = list(learner.models.parameters())
    optimizer = torch.optim.AdamW(
        parameters, learner.learning_rate, betas=(0.9, 0.99), weight_decay=learner.weight_decay
    )
    ema = EMAModel(parameters, decay=learner.ema_decay, foreach=True)
    state = _resume(folder, learner.models, optimizer, ema)
    factor = _schedule(learner.schedule, optimizer)
    step: int = state["step"]
    losses, spent_s = state["losses"], state["seconds"]
    clock = time.monotonic if torch.cuda.is_available() else time.thread_time
    started = logged = saved = clock()
    _log.info(
        "%s: %.2f M parameters, step %d, %.1f of %.1f min",
        folder.name,
        sum(p.numel() for p in parameters) / 1e6,
        step,
        spent_s / 60,
        minutes,
    )
    learner.models.train()
    while (progress := (spent_s + clock() - started) / (60 * minutes)) < 1 and (max_steps is None or step < max_steps):
        for group in optimizer.param_groups:
            group["lr"] = learner.learning_rate * factor(progress)
        losses.append(_step(learner, step, progress, parameters, optimizer))
        ema.step(parameters)
        step, now = step + 1, clock()
        if now - logged > LOG_EVERY_S:
            logged = now
            _log.info("%s: step %d, %.1f min, loss %.4f", folder.name, step, progress * minutes, np.mean(losses[-50:]))
        if now - saved > SAVE_EVERY_S:
            saved = now
            _save(folder, learner.models, optimizer, ema, step, losses, spent_s + now - started)
            if on_save:
                on_save()
    _save(folder, learner.models, optimizer, ema, step, losses, spent_s + clock() - started)
    if on_save:
        on_save()
    return step


def progress_of(folder: Path) -> dict[str, float]:
    """How long the training in a folder has gone: its steps, its minutes, and the mean of its last hundred losses."""
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    loss = float(np.mean(saved["losses"][-100:]))
    return {"steps": saved["step"], "minutes": round(saved["seconds"] / 60, 1), "loss": round(loss, 4)}


@torch.no_grad()
def begin_with(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy what fits into a model of the same kind; a table that has grown keeps its new rows as they are.

    So a training goes on from earlier weights when the vocabulary has grown or a head is new.
    """
    for name, value in model.state_dict().items():
        earlier = weights.get(name)
        if earlier is None or earlier.shape[1:] != value.shape[1:]:
            continue
        if earlier.shape == value.shape:
            value.copy_(earlier)
        elif len(earlier) < len(value):
            value[: len(earlier)] = earlier.to(value)


def load_ema(folder: Path, models: nn.ModuleDict) -> None:
    """Put the averaged weights of a folder's checkpoint into `models`."""
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    models.load_state_dict(saved["models"])
    with torch.no_grad():
        for parameter, average in zip(models.parameters(), saved["ema"]["shadow_params"], strict=True):
            parameter.copy_(average)
    models.eval()


def _step(
    learner: Learner, step: int, progress: float, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer
) -> float:
    # The step's number seeds it, so a run that was taken up again draws what an unbroken one would have drawn.
    torch.manual_seed(SEED + step)
    with torch.autocast(device(), dtype=torch.bfloat16, enabled=learner.autocast):
        loss = learner.loss(np.random.default_rng((SEED, step)), progress)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
    optimizer.step()
    return float(loss.detach())


def _schedule(name: str, optimizer: torch.optim.Optimizer) -> Callable[[float], float]:
    """The learning rate's factor at a progress of 0 to 1; the last tenth of a schedule never falls below 2 %."""
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=20, num_training_steps=1000)
    factor = scheduler.lr_lambdas[0]
    return lambda progress: max(0.02, factor(math.floor(progress * 1000)))


def _resume(folder: Path, models: nn.ModuleDict, optimizer: torch.optim.Optimizer, ema: EMAModel) -> dict[str, Any]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return {"step": 0, "seconds": 0.0, "losses": []}
    saved: dict[str, Any] = torch.load(path, map_location=device(), weights_only=True)
    models.load_state_dict(saved["models"])
    optimizer.load_state_dict(saved["optimizer"])
    ema.load_state_dict(saved["ema"])
    ema.to(device())
    return saved


def _save(
    folder: Path,
    models: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel,
    step: int,
    losses: list[float],
    seconds: float,
) -> None:
    averaged = ema.state_dict()
    state = {
        "models": models.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": averaged,
        "step": step,
        "losses": losses,
        "seconds": seconds,
    }
    torch.save(state, folder / "checkpoint.pt.part")
    os.replace(folder / "checkpoint.pt.part", folder / "checkpoint.pt")
    _draw_losses(folder / "loss.png", losses, seconds)


def _draw_losses(path: Path, losses: list[float], seconds: float) -> None:
    from matplotlib.figure import Figure  # a development dependency: who only uses the models does not need it

    window = max(1, len(losses) // 200)
    smooth: NDArray[np.floating[Any]] = (
        np.convolve(losses, np.ones(window) / window, "valid") if losses else np.zeros(0)
    )
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.plot(np.linspace(0, seconds / 60, len(smooth)), smooth)
    axes.set(xlabel="minutes", ylabel="loss", yscale="log", title=path.parent.name)
    figure.savefig(path, dpi=80)
