"""Late labels: when a batch counts, losses by the predictions of the day, corrections, what is overdue."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.core import overrides
from tasks.core.checks import performance
from tasks.core.decision.evidence import Evidence
from tasks.core.ledger.events import Decided
from tasks.core.ledger.state import State
from tasks.core.predictions import predictions_path, write_predictions
from tasks.core.records import to_dict
from tasks.core.run import labels
from tasks.core.run.assess import DataFindings, Findings, collect
from tasks.core.run.conclude import conclude
from tasks.core.run.labels import LabelFindings
from tasks.core.run.trainable import training_rows
from tasks.core.run.work import find_work
from tasks.core.types import Action, Decision, Outcome, Request, Rule, Served, Verdict
from tasks.core.versions.loaded import LoadedVersion
from tasks.core.workspace import Workspace
from tests.helpers.model import Model, make_rows

V1, V2, V3 = (Served(number, "d" * 64, data_end=number) for number in (1, 2, 3))
ROWS = 100


class Fixed:
    """A pipeline that gives every row the same probability."""

    classes_ = np.array([0, 1])

    def __init__(self, probability: float):
        self.probability = probability

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.full(len(frame), int(self.probability > 0.5))

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.tile([1 - self.probability, self.probability], (len(frame), 1))


@dataclass
class Play:
    """A model whose runs all reload: files arrive, labels are looked at, the decision is folded into the state."""

    model: Model
    current: LoadedVersion | None
    predecessor: LoadedVersion | None
    state: State
    findings: LabelFindings = field(default_factory=LabelFindings)
    evidence: Evidence = field(default_factory=Evidence)
    decided: Decided | None = None

    @property
    def workspace(self) -> Workspace:
        return self.model.workspace

    def deliver(self, *names: str) -> None:
        for name in names:
            self.model.deliver(name, make_rows(ROWS, int(name)).drop(columns="y"))

    def label(self, batch: str, rows: int = ROWS, *, file: str | None = None, flip: int = 0, **changes: Any) -> Path:
        """Labels for the first rows of a batch, the first `flip` of them the other way round."""
        frame = make_rows(ROWS, int(batch))[["id", "y"]].head(rows)
        frame.loc[: flip - 1, "y"] = 1 - frame.loc[: flip - 1, "y"]
        self.model.labels.mkdir(parents=True, exist_ok=True)
        path = self.model.labels / f"{file or batch}.parquet"
        frame.assign(**changes).to_parquet(path, index=False)
        return path

    def run(self) -> LabelFindings:
        work = find_work(self.workspace, Request(), self.state)
        found = labels.check_performance(self.workspace, self.state, work, work.pending, self.current, self.predecessor)
        data = DataFindings(work.pending, (ROWS,) * len(work.pending))
        measured = Findings(data, found)
        self.evidence = collect(Request(), self.state, measured)
        decision = Decision(Action.RELOAD, Rule.OTHERWISE, ("a test",), ())
        self.decided = conclude(self.state, self.state, self.workspace.spec, measured, self.evidence, decision, None)
        ledger = self.workspace.ledger
        head = replace(ledger.head(), state=self.state)
        self.state = ledger.append(head, self.decided, run="run", key=work.key, actor="ann", reason="").state_after
        self.findings = found
        if self.current:
            for batch in work.pending:
                path = predictions_path(self.workspace, batch)
                write_predictions(self.workspace.root, batch.path, path, self.current, self.workspace.spec, "run")
        return found

    def losses(self, batch: str) -> dict[int, float]:
        """The losses on a batch that the state remembers, by version."""
        return {point.version: point.mean for point in self.state.losses if point.batch == batch}


@pytest.fixture
def play(tmp_path: Path, champion: LoadedVersion) -> Play:
    """v2 in service and v1 before it, which gives every row one half; labels come in files of their own."""
    model = Model(tmp_path)
    model.write_spec(late_labels=True)
    return Play(model, replace(champion, version=2), fixed(champion, 1, 0.5), State(served=(V1, V2)))


def fixed(version: LoadedVersion, number: int, probability: float) -> LoadedVersion:
    return replace(version, version=number, pipeline=Fixed(probability))


def names(found: LabelFindings) -> list[str]:
    return [item.batch for item in found.labelled]


def said(found: LabelFindings, name: str) -> str:
    """What the warnings of this name say."""
    return "\n".join(c.summary for c in found.checks if c.name.startswith(name) and c.verdict is Verdict.WARN)


# --- when a batch counts -------------------------------------------------------------------------------------


def test_a_covered_batch_counts_with_its_lag(play: Play) -> None:
    """Labels count from min_coverage on; how many batches had arrived by then is recorded, and shown with coverage."""
    play.deliver("001")
    assert names(play.run()) == []
    play.deliver("002")
    play.label("001", 79)
    assert names(play.run()) == []
    play.deliver("003")
    play.label("001", 80)
    (item,) = play.run().labelled
    assert (item.batch, item.rows, item.coverage, item.lag, item.corrected) == ("001", 80, 0.8, 2, False)
    record = play.state.batches["001"]
    assert (record.labelled_rows, record.lag, record.coverage, record.version) == (80, 2, 0.8, 2)
    loss = next(check for check in play.findings.checks if check.name == "performance:loss")
    assert "(80% of its rows, 2 batches later)" in loss.summary


def test_a_matured_batch_counts_with_the_labels_it_has(play: Play) -> None:
    """Once label_delay later batches are there no more labels are waited for, if there are enough to judge by."""
    play.model.write_spec("label_delay = 2", late_labels=True)
    play.label("001", labels.MATURED_ROWS)
    play.label("002", labels.MATURED_ROWS - 1)
    for number, counted in ((1, []), (2, []), (3, ["001"]), (4, []), (5, [])):
        play.deliver(f"00{number}")
        assert names(play.run()) == counted
    assert play.state.batches["001"].coverage == 0.3
    assert play.losses("001").keys() == {1, 2}


def test_labels_in_the_batch_do_not_mature(play: Play) -> None:
    """What a batch itself lacks never comes: label_delay does not make it count."""
    play.model.write_spec("label_delay = 0")
    rows = make_rows(ROWS, 1)
    play.model.deliver("001", rows.assign(y=rows["y"].where(rows.index < 50)))
    assert names(play.run()) == []
    rows = make_rows(ROWS, 2)
    play.model.deliver("002", rows.assign(y=rows["y"].where(rows.index < 80)))
    assert names(play.run()) == ["002"]


def test_a_batch_that_came_twice_counts_once(play: Play) -> None:
    """The bytes of a batch under another name bring no loss and nothing to train on a second time; no label is awaited
    for them."""
    play.deliver("001", "002")
    play.label("001")
    play.label("002")
    assert names(play.run()) == ["001", "002"]
    shutil.copyfile(play.model.batches / "002.parquet", play.model.batches / "003.parquet")
    found = play.run()
    assert (names(found), found.unlabelled, play.losses("003")) == ([], 0, {})
    play.deliver("004")
    play.label("004")
    found = play.run()
    assert (names(found), found.unlabelled) == (["004"], 0)
    assert play.state.usable == ("001", "002", "004")


def test_rows_that_came_before_count_once(play: Play) -> None:
    """In no loss and no fit of the batch that repeats them; it counts as soon as its own rows have labels."""
    play.deliver("001")
    play.label("001")
    play.run()
    both = pd.concat([make_rows(ROWS, 1).tail(20), make_rows(ROWS, 2)], ignore_index=True)
    play.model.deliver("002", both.drop(columns="y"))
    play.label("002")
    found = play.run()
    assert [(item.batch, item.rows, item.coverage) for item in found.labelled] == [("002", ROWS, 1.0)]
    assert {point.rows for point in found.losses} == {ROWS}
    assert [check.summary for check in found.checks if "20 of 120 rows of 002 came before" in check.summary]
    work = find_work(play.workspace, Request(), play.state)
    assert [len(part.rows) for part in training_rows(play.workspace, work, ("001", "002"))] == [ROWS, ROWS]


def test_a_batch_of_nothing_new_waits_for_nothing(play: Play) -> None:
    """Rows of which all came before, in another order: predicted, named, never counted, and no label is awaited."""
    play.deliver("001")
    play.label("001")
    play.run()
    play.model.deliver("002", make_rows(ROWS, 1).drop(columns="y").iloc[::-1])
    found = play.run()
    assert (found.labelled, found.unlabelled, play.state.usable) == ((), 0, ("001",))
    assert [check.summary for check in found.checks if "100 of 100 rows of 002 came before" in check.summary]


def test_a_label_that_is_far_waits_for_a_word(tmp_path: Path) -> None:
    """Only its row waits; the message names the command, and once it was given the label counts."""
    model = Model(tmp_path)
    model.write_spec(task="regression")
    rows = make_rows(ROWS, 1)
    model.deliver("001", rows.assign(y=[*rows["income"].fillna(0)[1:], 5e7]))
    play = Play(model, None, None, State())
    (told,) = [check.summary for check in play.run().checks]
    assert told == (
        "001: 1 label is more than 1,000 times as far from the others as those are, such as 5e+07; its row counts as "
        "unlabelled. If that is right: `ror accept loans 001 --reason '...'`"
    )
    assert play.state.batches["001"].labelled_rows == ROWS - 1
    event = overrides.accept(play.workspace, "001", reason="a real sale", actor="ann")
    play.state = replace(play.state, trusted=event.state_after.trusted, by_hand=event.seq)
    for name in ("002", "003"):
        more = make_rows(ROWS, int(name))
        model.deliver(name, more.assign(y=more["income"].fillna(0)))
        found = play.run().labelled
        if name == "002":
            assert [(item.batch, item.rows) for item in found if item.corrected] == [("001", ROWS)]
        else:
            assert names(play.findings) == ["003"], "what was accepted is not found changed a second time"
    assert play.state.batches["001"].labelled_rows == ROWS
    work = find_work(play.workspace, Request(), play.state)
    assert [len(part.rows) for part in training_rows(play.workspace, work, ("001",))] == [ROWS]


def test_labels_that_come_out_of_order_are_not_the_newest(play: Play) -> None:
    """Labels of an older batch, after those of a newer one, are counted and measured; no rule takes them for news."""
    play.deliver("001", "002")
    play.label("002")
    play.run()
    assert play.evidence.newest == "002"
    play.label("001")
    found = play.run()
    assert (names(found), play.evidence.newest, play.state.age) == (["001"], None, 2)
    assert play.state.usable == ("001", "002")
    assert play.losses("001").keys() == {1, 2}


# --- the answers of the day ----------------------------------------------------------------------------------


def labelled_late(play: Play) -> None:
    """Batch 001 is predicted by one half, then labelled while another pipeline answers for v2."""
    served, play.current = play.current, fixed(play.current, 2, 0.5) if play.current else None
    play.deliver("001")
    play.run()
    play.current = served
    play.label("001")


def test_losses_are_of_the_predictions_of_the_day(play: Play) -> None:
    """What was written when the batch came is what counts, whatever the version would answer now."""
    labelled_late(play)
    found = play.run()
    assert play.losses("001")[2] == 0.25
    assert said(found, "predictions") == ""
    assert {point.version for point in found.losses} == {1, 2}


def other_bytes(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"ror": b"0" * 64}), path)


def flipped(path: Path) -> None:
    column = pq.read_metadata(path).row_group(0).column(2)
    assert column.path_in_schema == "probability"
    data = bytearray(path.read_bytes())
    data[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)


def without_classes(path: Path) -> None:
    table = pq.read_table(path)
    about = {name: value for name, value in table.schema.metadata.items() if name != b"classes"}
    pq.write_table(table.replace_schema_metadata(about), path)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (other_bytes, "made from other data"),
        (flipped, "is damaged"),
        (lambda path: path.write_bytes(b"PAR1"), "is damaged"),
        (without_classes, "older release"),
        (Path.unlink, "is not there"),
    ],
)
def test_predictions_that_cannot_be_relied_on(play: Play, spoil: Any, why: str) -> None:
    """A file that is damaged, gone or of other data is not used: the version is asked again, and a check says why."""
    labelled_late(play)
    spoil(play.workspace.data / "predictions" / "001.parquet")
    found = play.run()
    assert why in said(found, "predictions:001")
    assert play.losses("001")[2] != 0.25


def test_who_served_is_measured_too(play: Play, champion: LoadedVersion) -> None:
    """A batch that an older version served gets its loss from what that version wrote, so that status is the truth."""
    play.current, play.predecessor, play.state = fixed(champion, 1, 0.1), None, State(served=(V1,))
    play.deliver("001")
    play.run()
    play.current, play.predecessor = fixed(champion, 3, 0.3), fixed(champion, 2, 0.2)
    play.state = replace(play.state, served=(V1, V2, V3))
    play.label("001")
    play.run()
    truth = make_rows(ROWS, 1)["y"].to_numpy()
    assert play.losses("001") == {n: pytest.approx(((truth - n / 10) ** 2).mean()) for n in (1, 2, 3)}
    assert [(item.version, item.predecessor) for item in play.state.comparisons] == [(3, 2)]


# --- corrections ---------------------------------------------------------------------------------------------


def test_who_served_is_measured_where_nobody_loads(play: Play) -> None:
    """A version that does not load here any more is measured by what it answered at the time: what users saw counts."""
    labelled_late(play)
    state, work_now = replace(play.state, served=()), work(play)
    measured = labels.check_performance(play.workspace, state, work_now, (), None, None)
    play.run()
    assert [(point.batch, point.version) for point in measured.losses] == [("001", 2)]
    assert measured.losses[0].mean == play.losses("001")[2]


def test_a_correction_supersedes_and_is_not_news(play: Play) -> None:
    """Corrected labels replace losses and comparisons of their batch; no rule takes the batch for a new one."""
    play.deliver("001", "002")
    play.label("001")
    play.label("002")
    play.run()
    before = play.state
    play.label("001", 10, file="003-correction", flip=10)
    found = play.run()
    (item,) = found.labelled
    assert (item.batch, item.corrected, play.evidence.newest, found.fresh) == ("001", True, None, [])
    assert "10 corrected" in said(found, "labels:001") and "earlier labels" in said(found, "labels:001")
    assert (play.state.age, play.state.usable) == (before.age, before.usable)
    assert play.state.batches["001"].labels == item.labels != before.batches["001"].labels
    assert [p.batch for p in play.state.losses] == [p.batch for p in before.losses]
    assert play.losses("001")[2] > {p.version: p.mean for p in before.losses if p.batch == "001"}[2]
    old, new = ({c.batch: c.gain for c in state.comparisons} for state in (before, play.state))
    assert new["002"] == old["002"] and new["001"] < old["001"]
    assert len(play.evidence.losses) == len(before.losses)
    assert play.run().labelled == ()


def test_cooldown_ends_by_new_labels_only(play: Play) -> None:
    """A correction does not shorten the wait after a rollback."""
    play.deliver("001")
    play.label("001")
    play.state = replace(play.state, cooldown=2)
    play.run()
    play.label("001", 10, file="002", flip=10)
    play.run()
    assert (play.state.cooldown, play.evidence.cooldown) == (1, 1)


def test_labels_that_are_completed(play: Play) -> None:
    """More labels for a batch that counted are measured, and told apart from corrections."""
    play.deliver("001")
    play.label("001", 80)
    play.run()
    play.label("001", file="002")
    found = play.run()
    (check,) = [check for check in found.checks if check.name == "labels:001"]
    assert (check.verdict, "20 more rows" in check.summary) == (Verdict.PASS, True)
    assert {point.rows for point in play.state.losses} == {100}
    assert play.state.batches["001"].labelled_rows == 100


def test_a_file_changed_in_place(play: Play) -> None:
    """Where the earlier labels are not at hand, the change is noticed all the same."""
    play.deliver("001")
    play.label("001")
    play.run()
    play.label("001", flip=10)
    assert "its labels changed" in said(play.run(), "labels:001")


def test_unchanged_label_files_cost_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that counted are not read again while the label files are those of the last decision."""
    play.deliver("001")
    play.label("001")
    play.run()
    monkeypatch.setattr(labels, "labelled_rows", lambda *_: pytest.fail("looked again"))
    assert play.run().labelled == ()


def test_labels_that_shrink_and_come_back(play: Play) -> None:
    """Labels that are gone are an alarm; the batch still counts, its losses stay, and they are welcome back."""
    play.deliver("001", "002")
    first = play.label("001")
    play.label("002")
    play.run()
    before, content = play.state, first.read_bytes()
    first.unlink()
    assert "0 of its 100 rows have one" in said(play.run(), "labels:001")
    assert (play.state.losses, play.state.age, play.state.usable) == (before.losses, before.age, before.usable)
    assert [part.batch.id for part in training_rows(play.workspace, work(play), play.state.usable)] == ["002"]
    first.write_bytes(content)
    play.run()
    assert play.state.batches["001"] == before.batches["001"]
    assert play.state.losses == before.losses


def work(play: Play) -> Any:
    return find_work(play.workspace, Request(), play.state)


def test_withdrawn_labels(play: Play) -> None:
    """A later file may take labels back: they count no more, and the loss is of those that remain."""
    play.deliver("001")
    play.label("001")
    play.run()
    play.label("001", 40, file="002", y=pd.array([None] * 40, dtype="Int64"))
    assert "40 withdrawn" in said(play.run(), "labels:001")
    assert {point.rows for point in play.state.losses} == {60}


def test_a_damaged_label_file_hides_no_correction(play: Play) -> None:
    """A label file that cannot be read holds up nothing else: a correction beside it counts at once. Nothing is taken
    as seen meanwhile."""
    play.deliver("001")
    play.label("001")
    play.run()
    seen = play.state.label_files
    play.label("001", 10, file="002", flip=10)
    damaged = play.model.labels / "003.parquet"
    damaged.write_bytes(b"PAR1 and no more")
    found = play.run()
    assert "003.parquet" in found.blocked[0].problems[0] and "set aside" in found.blocked[0].problems[0]
    assert names(found) == ["001"]
    assert play.state.label_files == seen
    damaged.unlink()
    assert names(play.run()) == []


def test_a_label_file_with_keys_of_another_type(play: Play) -> None:
    """A later file that holds its keys as text changes no label that says the same, and corrects those that do not."""
    frame = make_rows(ROWS, 1).assign(id=range(ROWS))
    play.model.deliver("001", frame.drop(columns="y"))
    play.model.labels.mkdir(parents=True)
    frame[["id", "y"]].to_parquet(play.model.labels / "001.parquet")
    play.run()
    other = frame[["id", "y"]].head(5).astype({"id": str})
    other.to_parquet(play.model.labels / "002.parquet")
    assert play.run().labelled == ()
    other.assign(y=1 - other["y"]).to_csv(play.model.labels / "003.csv", index=False)
    assert "5 corrected" in said(play.run(), "labels:001")


# --- overdue -------------------------------------------------------------------------------------------------


def test_labels_that_never_come_are_an_alarm(play: Play) -> None:
    """A batch that waits longer than the delay and data.overdue more ends the run LabelsOverdue, before v1 as well."""
    play.current, play.predecessor, play.state = None, None, State()
    play.model.write_spec("label_delay = 1\noverdue = 2", late_labels=True)
    outcomes = []
    for number in range(1, 6):
        play.deliver(f"00{number}")
        play.run()
        assert play.decided is not None
        outcomes.append(play.decided.outcome)
    assert outcomes == [*[Outcome.RELOADED] * 4, Outcome.LABELS_OVERDUE]
    assert play.evidence.labels_overdue == ("001",)
    assert play.decided is not None
    reason = play.decided.decision.reasons[-1]
    assert "overdue for 001: 4 batches have arrived since" in reason and "data/loans/labels/*" in reason
    assert [batch.id for batch in play.decided.window] == ["005"]
    assert play.state.label_files is not None
    play.label("001")
    play.run()
    assert play.decided.outcome is Outcome.RELOADED


def test_undeclared_the_delay_is_what_was_seen(play: Play) -> None:
    """Labels may take as long as they took before, and data.overdue batches more."""
    play.deliver("001")
    play.run()
    for number in (2, 3, 4):
        play.deliver(f"00{number}")
        play.run()
    play.label("001")
    assert (play.run().delay, play.state.label_lag) == (3, 3)
    for number in range(5, 10):
        play.deliver(f"00{number}")
        assert play.run().overdue is None
    play.deliver("010")
    overdue = play.run().overdue
    assert overdue is not None and overdue.batches == ("002",)
    assert "labels take 3 (the longest seen so far" in overdue.reason


def test_a_backlog_says_nothing_about_the_delay(play: Play) -> None:
    """Labels of batches that piled up while no run looked did not take as many batches: the alarm stays sharp."""
    play.deliver("001")
    play.run()
    play.deliver(*(f"{number:03d}" for number in range(2, 12)))
    for number in range(1, 11):
        play.label(f"{number:03d}")
    assert play.run().labelled[0].lag == 10
    assert play.state.label_lag == 1


def test_a_quarantined_batch_is_not_waited_for(play: Play) -> None:
    """A person ends the alarm for labels that will never come; should they come, they wait for the person's release."""
    play.model.write_spec("overdue = 0", late_labels=True)
    play.deliver("001", "002", "003")
    play.run()
    assert play.run().overdue is not None
    play.state = replace(play.state, quarantined=("001",))
    assert play.run().overdue is None
    play.label("001")
    assert (names(play.run()), play.losses("001"), play.state.usable) == ([], {}, ())
    play.state = replace(play.state, quarantined=())
    assert (names(play.run()), play.state.usable) == (["001"], ("001",))


def test_a_first_look_at_a_backlog_is_no_alarm(play: Play) -> None:
    """Batches that no run had decided on were not waited for: labels get their time."""
    play.deliver(*(f"{number:03d}" for number in range(1, 12)))
    assert play.run().overdue is None


def test_losses_of_the_day_agree_with_the_formula(play: Play) -> None:
    """The champion's loss from its file is what it would have been, had it been asked again."""
    play.deliver("001")
    play.run()
    play.label("001")
    play.run()
    rows = make_rows(ROWS, 1)
    assert play.current is not None
    again = performance.row_losses(play.current.predict(rows.drop(columns="y")), rows["y"].to_numpy(), "binary")
    assert play.losses("001")[2] == pytest.approx(again.mean(), rel=1e-12)


def test_a_version_that_needs_other_columns_is_not_judged(play: Play, champion: LoadedVersion) -> None:
    """A version that could not predict a batch is left out of the comparison on it; the labels count all the same."""
    assert play.predecessor is not None
    first = champion.contract.features[0]
    contract = replace(champion.contract, features=(replace(first, name="gone"), *champion.contract.features))
    play.predecessor = replace(play.predecessor, contract=contract)
    play.deliver("001")
    play.run()
    play.label("001")
    found = play.run()
    assert (names(found), found.blocked, play.losses("001").keys()) == (["001"], (), {2})
    assert "v1 was not measured on 001: column 'gone' is missing" in said(found, "predictions:001")


# --- slices --------------------------------------------------------------------------------------------------


@pytest.fixture
def sliced(play: Play) -> Play:
    """The same, with slices by city and by a column that is no feature; 001 and 002 are labelled, 003 has arrived."""
    play.model.write_spec("[checks]\nslice_rows = 10", late_labels=True)
    path = play.model.root / "deployments/loans.toml"
    path.write_text(path.read_text().replace("[data]", 'slices = ["city", "desk"]\n[data]', 1))
    for name in ("001", "002", "003"):
        rows = make_rows(ROWS, int(name)).drop(columns="y")
        play.model.deliver(name, rows.assign(desk=np.arange(ROWS) % 2))
        play.run()
    play.label("001")
    play.label("002")
    play.run()
    return play


def in_oslo_inverted(play: Play) -> None:
    """Labels of 003, the other way round where the city is Oslo."""
    rows = make_rows(ROWS, 3)
    labels_ = rows[["id"]].assign(y=np.where(rows["city"] == "Oslo", 1 - rows["y"], rows["y"]))
    labels_.to_parquet(play.model.labels / "003.parquet", index=False)


def slices_of(found: LabelFindings) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in found.checks if check.name.startswith("slice")}


def test_a_slice_that_got_worse_is_named(sliced: Play) -> None:
    """The newest labelled batch is shown by slices, beside the answers of the day on those before; the history has it,
    the rules do not see it."""
    in_oslo_inverted(sliced)
    found = slices_of(sliced.run())
    assert found["slice:city=Oslo"] is Verdict.FAIL
    assert (found["slice:city=Bergen"], found["slice:desk=0"]) == (Verdict.PASS, Verdict.PASS)
    assert sliced.decided is not None
    assert {check.name for check in sliced.decided.checks if check.name.startswith("slice")} == set(found)
    assert "slice" not in str(to_dict(sliced.evidence)) + str(to_dict(sliced.state))
    assert slices_of(sliced.run()) == {}, "nothing is newly labelled"


def test_slices_need_answers_of_the_day(sliced: Play) -> None:
    """A batch whose predictions are gone or damaged is left out; without any there is one skipped check."""
    predictions = sliced.workspace.data / "predictions"
    (predictions / "001.parquet").unlink()
    in_oslo_inverted(sliced)
    assert slices_of(sliced.run())["slice:city=Oslo"] is Verdict.FAIL
    (predictions / "002.parquet").write_bytes(b"PAR1")
    sliced.deliver("004")
    sliced.run()
    sliced.label("004")
    assert slices_of(sliced.run())["slice:city=Oslo"] is Verdict.PASS, "003 is left to compare with"
    for name in ("003", "004"):
        (predictions / f"{name}.parquet").unlink()
    sliced.deliver("005")
    sliced.run()
    sliced.label("005")
    found = sliced.run()
    assert (slices_of(found), names(found)) == ({"slices": Verdict.SKIPPED}, ["005"])


def test_slices_leave_out_what_a_version_was_trained_on(sliced: Play) -> None:
    """Answers of a version on labels that it learned say nothing about what users lose, nor do labels in quarantine."""
    sliced.state = replace(sliced.state, losses=tuple(p for p in sliced.state.losses if p.batch != "001"))
    sliced.state = replace(sliced.state, quarantined=("002",))
    in_oslo_inverted(sliced)
    assert slices_of(sliced.run()) == {"slices": Verdict.SKIPPED}


def test_a_correction_is_no_new_batch_for_slices(sliced: Play) -> None:
    """Corrected labels are measured anew by batch; slices are of newly labelled batches, and use what is known now."""
    sliced.label("002", file="002-correction", flip=ROWS)
    found = sliced.run()
    assert ([item.corrected for item in found.labelled], slices_of(found)) == ([True], {})
    sliced.label("003")
    (check,) = [check for check in sliced.run().checks if check.name == "slice:city=Oslo"]
    rows = {name: make_rows(ROWS, int(name)) for name in ("001", "002")}
    assert sliced.current is not None
    lost = []
    for name, frame in rows.items():
        target = frame["y"].to_numpy() if name == "001" else 1 - frame["y"].to_numpy()
        each = performance.row_losses(sliced.current.predict(frame.drop(columns="y")), target, "binary")
        lost.append(each[(frame["city"] == "Oslo").to_numpy()])
    assert f", {np.concatenate(lost).mean():.3g} on the batches before" in check.summary


def test_slices_cost_nothing_where_there_are_none(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names no slices pays for none."""
    monkeypatch.setattr(labels, "earlier", lambda *_: pytest.fail("looked"))
    play.deliver("001")
    play.run()
    play.label("001")
    assert slices_of(play.run()) == {}


# --- what does not fit ---------------------------------------------------------------------------------------


def test_who_waits_for_labels_reads_why(play: Play) -> None:
    """Label files of which nothing joins are named in the reason of the run, by every run, until they join."""
    play.deliver("001")
    play.label("001", id=[f"ID-{row}" for row in range(ROWS)])
    found = play.run()
    said_so = "0 of 100 keys in 001.parquet are keys of any batch: 'ID-0' there, '1-0' here"
    assert play.decided is not None and said_so in play.decided.decision.reasons[0]
    assert said_so in said(found, "keys:001.parquet") and found.labelled == ()
    play.deliver("002")
    again = labels.check_performance(
        play.workspace, play.state, work(play), work(play).pending, play.current, None, play.decided.checks
    )
    assert said_so.partition(":")[0] in again.unjoined[0] and "'2-0' here" in again.unjoined[0]
    play.label("001")
    assert names(play.run()) == ["001"] and play.findings.unjoined == ()


def test_a_label_file_that_is_no_class_holds_up_no_other(play: Play) -> None:
    """It is set aside by name; the labels of the others count, and nothing is taken as seen."""
    play.deliver("001", "002")
    play.label("001")
    play.label("002", y=["yes", "no"] * (ROWS // 2))
    found = play.run()
    assert names(found) == ["001"] and play.state.label_files is None
    (problem,) = found.blocked[0].problems
    assert "002.parquet: 100 of its 100 labels are none of the classes 0, 1: 'yes', 'no'" in problem
    play.label("002")
    assert names(play.run()) == ["002"] and play.findings.blocked == ()


def test_rows_that_are_no_class_are_unlabelled(play: Play) -> None:
    """They are counted and named; the loss is of the others, as if they had no label yet."""
    play.deliver("001")
    play.label("001", y=[*make_rows(ROWS, 1)["y"].astype(str)[:-3], "?", "?", "x"])
    (item,) = play.run().labelled
    assert item.rows == ROWS - 3
    text = said(play.findings, "labels:001.parquet")
    assert text == (
        "001.parquet: 3 of 100 labels are none of the classes 0, 1: '?', 'x'; such rows count as unlabelled"
    )


def test_classes_lead_out(play: Play) -> None:
    """What the message says works: with the classes in the model's file the labels count."""
    play.current, play.predecessor, play.state = None, None, State()
    play.deliver("001", "002")
    play.label("001")
    play.label("002", y=[2, 1] * (ROWS // 2))
    assert names(play.run()) == ["001"] and "classes = [" in play.findings.blocked[0].problems[0]
    play.model.write_spec(late_labels=True, task="multiclass")
    path = play.model.root / "deployments" / "loans.toml"
    path.write_text(f"classes = [0, 1, 2]\n{path.read_text()}")
    assert names(play.run()) == ["002"] and play.findings.blocked == ()
