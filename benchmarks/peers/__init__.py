"""Other people's searches, on the same problems as ours: DyNAS-T, pymoo's NSGA-II, optuna.

Every peer runs as published; what answers its evaluations is replaced, nothing else. The registry `PEERS` names
them; each is called as `peer(problem, metrics, population, budget, seed)` and returns a `PeerRun`.
"""

from __future__ import annotations

from functools import partial

from peers.dynast import dynast_tactic
from peers.dynast_import import installed
from peers.paper_nsga2 import paper_nsga2
from peers.run import Evaluations, Peer, PeerRun, Problem
from peers.samplers import optuna_sampler

PEERS: dict[str, Peer] = {
    "dynast-linas": partial(dynast_tactic, tactic="LINAS"),
    "dynast-evolutionary": partial(dynast_tactic, tactic="Evolutionary"),
    "dynast-random": partial(dynast_tactic, tactic="RandomSearch"),
    "pymoo-nsga2": paper_nsga2,
    "optuna-nsga2": partial(optuna_sampler, sampler="NSGAIISampler"),
    "optuna-tpe": partial(optuna_sampler, sampler="TPESampler"),
}
"""The peers by name; what stands before the hyphen is the package that they need."""


def available() -> tuple[dict[str, Peer], list[str]]:
    """Return the peers whose package is installed, and a line for each of the others that says what is missing."""
    packages = {name: name.partition("-")[0] for name in PEERS}
    here = {name: peer for name, peer in PEERS.items() if installed(packages[name])}
    hint = "benchmarks/README.md says how to install it"
    return here, [f"{name}: skipped, {packages[name]} is missing; {hint}" for name in PEERS if name not in here]


__all__ = ["PEERS", "Evaluations", "Peer", "PeerRun", "Problem", "available"]
