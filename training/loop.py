"""CTC training to the end of a budget of minutes, with validation and checkpoints on the way.

The minutes are those that this thread computes: a machine that is shared, or a process that is stopped for a
while, makes a run longer, not worse.
The learning rate follows the budget: a short warm-up, then a cosine to zero. What is validated and kept is
an exponential moving average of the weights. Batch norm keeps the pretrained statistics, so a network
computes the same in training as when it is served, whatever it is padded with.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from export.networks.text.charset import BLANK, CHARSET
from training.batches import Batch, training_batches
from training.errors import StateError
from training.lines.degrade import LEVELS
from training.lines.generator import GeneratedLine, LineSource
from training.metrics import character_error_rate
from training.reading import read_lines
from training.recipes import CNN, Recipe, channels_last
from training.state import load_run, load_weights, save_run, save_weights

__all__ = ["Progress", "TrainingRun"]

WARM_UP = 0.02  # of the budget
AVERAGE_DECAY = 0.9985
GRADIENT_NORM = 2.0
WEIGHT_DECAY = 0.01
LOSS_EVERY_MINUTES = 0.1
VALIDATION_LINES = 400  # of each level
VALIDATION_NUMBER = 1_000_000  # the first of them


@dataclass
class Progress:
    """What has happened so far.

    `curve` holds one row per validation; `losses` (minutes, loss), ten times a minute.
    """

    step: int = 0
    next_line: int = 0
    seconds: float = 0.0
    loss: float = math.nan  # a running mean, per line
    learning_rate: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)


class TrainingRun:
    """One training run in a folder: `state.pt` while unfinished, `<model>.safetensors` from the start.

    Going on from `state.pt` continues the weights, their average, the optimizer, the schedule and the
    stream of lines; results are not the same to the bit as those of a run that never stopped.
    `start` is a file of weights to begin with instead of the recipe's own. Raises `StateError` for files
    that cannot be read or do not fit, as those of a run with another seed.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        seed: int,
        minutes: float,
        *,
        restart: bool = False,
        start: Path | None = None,
        split: str = "training",
    ) -> None:
        self.recipe, self.folder, self.seed, self.minutes, self.start = recipe, folder, seed, minutes, start
        self._lines: dict[str, list[GeneratedLine]] = {}  # of the validation, by level
        self.validating = False
        torch.manual_seed(seed)
        self.network = channels_last(recipe.start())
        if start:
            load_weights(self.network, start)
        self.progress = Progress()
        self.optimizer = torch.optim.AdamW(self._groups(), recipe.learning_rate, weight_decay=WEIGHT_DECAY)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.source = LineSource(split, seed)
        self.state_file = folder / "state.pt"
        self.resumed = self.state_file.exists() and not restart
        if self.resumed:
            self._resume(load_run(self.state_file))

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(1.0, self.progress.seconds / (60 * self.minutes))

    def train(self, validate_every_s: float, report: Callable[["TrainingRun"], None]) -> None:
        """Until the budget is spent. An interruption saves the run first.

        validate_every_s: seconds that this thread computes, as those of the budget.
        """
        progress, since = self.progress, 0.0
        batches = training_batches(
            self.source,
            progress.next_line,
            self.recipe.least_padding,
            0 if self.start else self.recipe.short_lines,
        )
        try:
            while self.fraction < 1:
                start = time.thread_time()
                batch, progress.next_line = next(batches)
                self.step(batch)
                spent = time.thread_time() - start
                progress.seconds += spent
                since += spent
                if not progress.losses or progress.seconds / 60 - progress.losses[-1][0] > LOSS_EVERY_MINUTES:
                    progress.losses.append((round(progress.seconds / 60, 3), round(progress.loss, 4)))
                report(self)
                if since >= validate_every_s and self.fraction < 1:
                    since = 0.0
                    self._take_stock(report)
            self._take_stock(report)
        except KeyboardInterrupt:
            self.save()
            raise

    def _take_stock(self, report: Callable[["TrainingRun"], None]) -> None:
        self.validating = True
        report(self)  # it takes a minute
        self.validate()
        self.validating = False
        self.save()
        report(self)

    def step(self, batch: Batch) -> float:
        """One update of the weights; returns the loss per line."""
        self._set_mode()
        rate = self._schedule()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * group["factor"] * rate
        log_probs = self.recipe.read(self.network, batch.lines)
        steps = torch.full((len(batch.lines),), log_probs.shape[1])
        loss = F.ctc_loss(
            log_probs.transpose(0, 1),
            batch.targets,
            steps,
            batch.target_lengths,
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,
        ) / len(batch.lines)
        self.optimizer.zero_grad()
        (loss / 10).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        progress, value = self.progress, float(loss.detach())
        progress.step += 1
        progress.learning_rate = self.recipe.learning_rate * rate
        progress.loss = value if math.isnan(progress.loss) else 0.98 * progress.loss + 0.02 * value
        decay = min(AVERAGE_DECAY, (1 + progress.step) / (10 + progress.step))
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)
        return value

    def validate(self) -> dict[str, float]:
        """CER of the averaged weights on the validation families and words; appended to the curve."""
        network = self.recipe.network()
        network.load_state_dict(self.average)
        network = channels_last(network.eval())
        row = {
            "minutes": round(self.progress.seconds / 60, 2),
            "step": self.progress.step,
            "lines": self.progress.next_line,
            "loss": round(self.progress.loss, 4),
        }
        for level, lines in self._validation_lines().items():
            read = read_lines(self.recipe, network, [line.pixels for line in lines])
            pairs = [(text, line.text) for text, line in zip(read, lines, strict=True)]
            row[f"cer_{level}_percent"] = round(character_error_rate(pairs), 3)
        self.progress.curve.append(row)
        return row

    def save(self) -> None:
        """The unfinished run, and the averaged weights so far."""
        save_run(
            {
                "model": self.recipe.name,
                "network": self.network.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "progress": vars(self.progress),
                "seed": self.seed,
            },
            self.state_file,
        )
        save_weights(self.average, self.folder / f"{self.recipe.name}.safetensors", self.metadata())

    def metadata(self) -> dict[str, str]:
        """What goes into the weights' file."""
        command = f"python -m training {self.recipe.name} --minutes {self.minutes:g} --seed {self.seed}"
        start = f"{', '.join(self.recipe.pretrained)} of legere 0.11.0"
        if self.start:
            start = self.start.name
            command += f" --start {start} --learning-rate {self.recipe.learning_rate:g}"
        return {
            "model": self.recipe.name,
            "charset": CHARSET,
            "start": start,
            "command": command,
            "seed": str(self.seed),
            "steps": str(self.progress.step),
            "lines": str(self.progress.next_line),
            "minutes": f"{self.progress.seconds / 60:.1f}",
        }

    def _groups(self) -> list[dict[str, Any]]:
        cnn: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            (cnn if name.startswith(CNN) else rest).append(parameter)
        return [{"params": cnn, "factor": self.recipe.cnn_factor}, {"params": rest, "factor": 1.0}]

    def _schedule(self) -> float:
        fraction = self.fraction
        return min(1.0, (fraction + 1e-3) / WARM_UP) * (1 + math.cos(math.pi * fraction)) / 2

    def _set_mode(self) -> None:
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _validation_lines(self) -> dict[str, list[GeneratedLine]]:
        if not self._lines:
            source = LineSource("validation", self.seed)
            self._lines = {
                level: [source.line(VALIDATION_NUMBER + i, level) for i in range(VALIDATION_LINES)]
                for level in LEVELS
            }
        return self._lines

    def _resume(self, state: dict[str, Any]) -> None:
        for what, ours in (("model", self.recipe.name), ("seed", self.seed)):
            if state[what] != ours:
                raise StateError(
                    f"the unfinished run {self.state_file} has {what} {state[what]}, not {ours}: "
                    "give another --folder, or begin anew with --restart"
                )
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.progress = Progress(**state["progress"])
