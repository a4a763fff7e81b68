"""What another policy would have decided on the evidence that the history recorded; nothing is fitted."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.core.decision.policy import decide
from tasks.core.errors import SpecError
from tasks.core.ledger.events import Decided, Event
from tasks.core.spec import ModelSpec, PolicySpec
from tasks.core.spec_problems import problems_of
from tasks.core.types import Action, Rule


@dataclass(frozen=True, slots=True)
class Answer:
    """One recorded decision, and what the other policy says of the same evidence."""

    seq: int
    at: str
    batches: tuple[str, ...]
    action: Action
    rule: Rule
    other_action: Action
    other_rule: Rule
    other_reasons: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both policies act alike."""
        return self.action == self.other_action


def read_policy(path: Path) -> PolicySpec:
    """The `[policy]` section of a TOML file, be it a whole model file or that section alone. Raises SpecError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(str(path), ["there is no such file"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [f"not valid TOML: {error}"]) from None
    if "policy" not in values:
        raise SpecError(str(path), ["it has no [policy] section"])
    try:
        return PolicySpec.model_validate(values["policy"])
    except ValidationError as error:
        raise SpecError(str(path), problems_of(error, ModelSpec, ("policy",))) from None


def ask(events: Sequence[Event], policy: PolicySpec) -> list[Answer]:
    """Each decision of a history with this policy's own, on the evidence as recorded: what came of earlier decisions is
    history's, not this policy's. Decisions recorded before evidence was are left out."""
    answers = []
    for event in events:
        decided = event.content
        if not isinstance(decided, Decided) or decided.evidence is None:
            continue
        other = decide(decided.evidence, policy)
        answers.append(
            Answer(
                seq=event.seq,
                at=event.at,
                batches=tuple(batch.id for batch in decided.window),
                action=decided.decision.action,
                rule=decided.decision.rule,
                other_action=other.action,
                other_rule=other.rule,
                other_reasons=other.reasons,
            )
        )
    return answers
