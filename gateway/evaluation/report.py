"""The report of a screening: figures, verdicts and where they come from."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway import __version__
from gateway.evaluation.figures import Figures
from gateway.evaluation.targets import Verdict
from gateway.pipeline import BuiltStages
from gateway.policy.model import LoadedPolicy

DEFINITIONS: Mapping[str, str] = {
    "refused": "the policy's admission refuses the question, for whatever reason",
    "higher tier": "admitted with more caution than the first tier's: by the risk, or because a finding asks for it",
    "interval": "95 %; of shares Wilson's, of the AUC DeLong's on the logit scale (Newcombe's where all pairs are in "
    "order or none is)",
    "risk": "the worst risk that any pre-screener gave; rows on which a stage failed count as the policy decided them, "
    "and are left out where the risk alone is looked at",
    "AUC": "the chance that a harmful question has more risk than a benign one of the same file; a tie counts half",
    "pairs in order": "twins of which the harmful one has more risk than the benign one; a tie is not in order",
    "caught at FPR 8 %": "harmful questions at or above the best threshold on the risk that flags at most 8 % of the "
    "benign; it is chosen on the same file, so it flatters",
    "flagged at TPR 92 %": "benign questions at or above the highest threshold that catches 92 % of the harmful",
    "calibration error": "over ten bins of equal count, the mean distance between the mean risk and the share that is "
    "harmful; it depends on how many harmful questions the file holds",
    "not inspected": "questions with a part that no stage looked at",
    "time": "milliseconds of one call of a stage, its waiting for other questions included where several run at once",
}
"""What the words of a report mean."""


class Machine(Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cores: int
    system: str
    python: str


class PolicyUsed(Struct, frozen=True, kw_only=True):
    """The policy that decided: `digest` is its file's SHA-256 in hex, `tiers` are the thresholds."""

    department: str
    revision: int
    digest: str
    path: str
    tiers: tuple[float, ...]


class StageUsed(Struct, frozen=True, kw_only=True):
    """A stage that was asked, with its distribution's version."""

    stage: str
    version: str


class Report(Struct, frozen=True, kw_only=True):
    """Everything that `screen.json` says. `stopped`: not all rows were screened. `made` is UTC.

    `unused` are the targets' patterns that fit no file.
    """

    made: dt.datetime
    gateway: str
    command: str
    machine: Machine
    policy: PolicyUsed
    stages: tuple[StageUsed, ...]
    jobs: int
    seconds: float
    stopped: bool
    files: tuple[Figures, ...]
    verdicts: tuple[Verdict, ...] = ()
    unused: tuple[str, ...] = ()
    definitions: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(DEFINITIONS))
    format: str = "gateway-screen-1"


def make_report(
    loaded: LoadedPolicy,
    stages: BuiltStages,
    files: Sequence[Figures],
    *,
    command: str,
    jobs: int,
    seconds: float,
    stopped: bool,
    verdicts: tuple[Verdict, ...] = (),
    unused: tuple[str, ...] = (),
) -> Report:
    """Join the figures with where they come from."""
    return Report(
        made=dt.datetime.now(dt.UTC).replace(microsecond=0),
        gateway=__version__,
        command=command,
        machine=this_machine(),
        policy=policy_used(loaded),
        stages=tuple(StageUsed(stage=built.name, version=built.version) for built in stages.values()),
        jobs=jobs,
        seconds=round(seconds, 1),
        stopped=stopped,
        files=tuple(files),
        verdicts=verdicts,
        unused=unused,
    )


def _near(path: str) -> str:
    """Give a path as seen from the folder the command was run in, where it lies below: a report is read elsewhere."""
    here, file = Path.cwd().resolve(), Path(path).resolve()
    return str(file.relative_to(here)) if file.is_relative_to(here) else path


def this_machine() -> Machine:
    """Tell what this runs on."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def policy_used(loaded: LoadedPolicy) -> PolicyUsed:
    """Tell which policy was used."""
    policy = loaded.policy
    return PolicyUsed(
        department=policy.department,
        revision=policy.revision,
        digest=loaded.digest,
        path=_near(loaded.path),
        tiers=tuple(tier.below for tier in policy.tiers),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), platform.processor() or "unknown")
