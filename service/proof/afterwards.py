"""What is looked through once the attacks are over: every prompt that the model got, and every line that the service wrote."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from service.proof.attempts import Attempt, Breach
from service.proof.canaries import Canaries
from service.proof.world import APPS

DROPPED = "foreign_hits_dropped"


def prompts(asked: Sequence[str], canaries: Canaries) -> Iterator[Breach]:
    """Find prompts with what is not their asker's: who asked had nothing, so no user's, and only one app's, may be there."""
    for prompt in asked:
        owners = canaries.foreign(prompt, ())
        apps = {owner.partition("/")[0] for owner in owners}
        users = [owner for owner in owners if owner.partition("/")[2] not in ("prompt", "shared", "members")]
        if users or len(apps) > 1:
            yield Breach(
                "a prompt", "reference", "same app", f"the model is told what is of {', '.join(users or owners)}"
            )


def log(path: Path, canaries: Canaries, secrets: Collection[str], forgetful: Mapping[str, Attempt]) -> Iterator[Breach]:
    """Find lines that hold anyone's content or credentials; a forgetful index must be reported each time, a sound one never."""
    reported = set()
    models = [f"{app}/members" for app in APPS]  # whose models' names the log may hold
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if owners := canaries.foreign(line, models):
            yield Breach("a line of the log", "path", "nobody", f"it holds what is of {', '.join(owners)}")
        if "eyJ" in line or any(secret in line for secret in secrets):
            yield Breach("a line of the log", "header", "nobody", "it holds a credential")
        if DROPPED in line:
            reported.add(str(json.loads(line).get("request")))
    for _ in reported - forgetful.keys():
        yield Breach("a search", "index", "same app", "the index itself gives what is another's")
    for request in forgetful.keys() - reported:
        yield Breach(
            str(forgetful[request]),
            "index",
            forgetful[request].actor,
            "nobody reports an index that forgets its filter",
        )
