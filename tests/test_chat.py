"""The turn's machine, fed by hand: no store, no model, no clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.backends.interfaces import Delta, Finish, Set, Update, Usage
from service.chat.events import (
    Accepted,
    Citations,
    ClientLeft,
    Deadline,
    Done,
    Effect,
    Ended,
    Error,
    Failed,
    Heartbeat,
    Save,
    Saved,
    SaveFailed,
    Send,
    Text,
    Tick,
    TurnInput,
)
from service.chat.machine import Pace, TurnMachine
from service.conversations import Begun, fingerprint
from service.errors import PreconditionFailed, Unavailable, UpstreamBusy
from service.models import Call, Chat, Exchange, Passage, Recent, Turn, TurnStatus, timestamp
from service.records import from_text

PACE = Pace(first_save=0.0, checkpoint=1.0, lease=9.0, heartbeat=1.0)
PASSAGE = Passage(document="d1", chunk=0, title="Manual", text="Water boils at 100 °C.")


def machine(
    citations: tuple[Passage, ...] = (), calls: Sequence[Call] = (), recent: Recent | None = None
) -> TurnMachine:
    now = timestamp()
    turn = Turn(
        id="t1",
        chat="c1",
        seq=1,
        prompt="When does water boil?",
        status=TurnStatus.ACCEPTED,
        created=now,
        updated=now,
        fingerprint=fingerprint("When does water boil?"),
        run="r1",
        citations=citations,
        model="m",
        input_tokens=12,
        lease=now,
    )
    chat = Chat(id="c1", title="Water", created=now, updated=now, turns=1, running="t1")
    return TurnMachine(Begun(turn, chat, "v0", recent), "v0", calls, PACE)


class Driver:
    """Feeds a machine and plays a store that always works."""

    def __init__(self, made: TurnMachine) -> None:
        self.machine = made
        self.at = 100.0
        self.events: list[object] = []
        self.saves: list[Save] = []
        self.do(made.start(self.at))

    def feed(self, event: TurnInput, after: float = 0.0) -> None:
        self.at += after
        self.do(self.machine.feed(event, self.at))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(event):
                    self.events.append(event)
                case Save():
                    self.saves.append(effect)
                    self.do(self.machine.feed(Saved(f"v{len(self.saves)}"), self.at))

    @property
    def reply(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))


def test_a_turn_is_accepted_cited_streamed_and_done() -> None:
    turn = Driver(machine(citations=(PASSAGE,)))
    for event in (Delta("At 100"), Delta(" °C."), Finish("stop"), Usage(12, 4), Ended()):
        turn.feed(event)
    kinds = [type(event) for event in turn.events]
    assert kinds == [Accepted, Citations, Text, Text, Done]
    assert turn.machine.turn.status is TurnStatus.COMPLETED
    assert turn.machine.turn.reply == turn.reply == "At 100 °C."
    assert turn.machine.turn.finish_reason == "stop"


def test_the_answer_and_its_ledger_row_are_one_commit_before_done() -> None:
    turn = machine()
    turn.start(0.0)
    turn.feed(Delta("Yes"), 0.5)
    turn.feed(Saved("v1"), 0.5)
    turn.feed(Finish("stop"), 1.0)
    turn.feed(Usage(12, 4, 2), 1.0)
    [save] = turn.feed(Ended(), 1.0)
    assert isinstance(save, Save)
    writes = save.compose()
    paths = [write.path for write in writes]
    assert paths == [("chats", "c1", "turns", "t1"), ("chats", "c1"), ("calls", "r1.answer")]
    first = writes[0]
    assert isinstance(first, Update)
    assert first.version == "v1"
    call = writes[2].data
    assert (call["input_tokens"], call["output_tokens"], call["cached_tokens"], call["estimated"]) == (12, 4, 2, False)
    assert (call["first_token_ms"], call["total_ms"]) == (500.0, 1000.0)
    assert turn.feed(Saved("v2"), 1.1) == [Send(Done(turn.turn))]


def test_a_stream_without_finish_reason_is_interrupted_never_completed() -> None:
    turn = Driver(machine())
    turn.feed(Delta("At 1"))
    turn.feed(Ended())
    assert turn.machine.turn.status is TurnStatus.INTERRUPTED
    assert turn.machine.turn.reply == "At 1"
    assert isinstance(turn.events[-1], Error)


def test_an_empty_stream_fails() -> None:
    turn = Driver(machine())
    turn.feed(Ended())
    assert turn.machine.turn.status is TurnStatus.FAILED
    assert turn.machine.turn.error is not None
    assert turn.machine.turn.error.code == "upstream_interrupted"


def test_an_error_before_the_first_piece_fails_and_after_it_interrupts() -> None:
    early, late = Driver(machine()), Driver(machine())
    early.feed(Failed(UpstreamBusy()))
    late.feed(Delta("At"))
    late.feed(Failed(UpstreamBusy()))
    assert early.machine.turn.status is TurnStatus.FAILED
    assert late.machine.turn.status is TurnStatus.INTERRUPTED
    assert late.machine.turn.error is not None
    assert late.machine.turn.error.code == "upstream_busy"


def test_a_failure_after_the_finish_reason_changes_nothing() -> None:
    turn = Driver(machine())
    for event in (Delta("Yes"), Finish("length"), Failed(UpstreamBusy())):
        turn.feed(event)
    assert turn.machine.turn.status is TurnStatus.COMPLETED
    assert turn.machine.turn.finish_reason == "length"


def test_a_client_that_leaves_keeps_what_came() -> None:
    turn = Driver(machine())
    turn.feed(Delta("At 100"))
    turn.feed(ClientLeft())
    assert turn.machine.turn.status is TurnStatus.INTERRUPTED
    assert turn.machine.turn.reply == "At 100"
    assert turn.machine.turn.error is None
    assert any(write.path[0] == "calls" for write in turn.saves[-1].compose())


def test_a_client_that_leaves_before_the_first_piece_interrupts_an_empty_turn() -> None:
    turn = Driver(machine())
    turn.feed(ClientLeft())
    assert turn.machine.turn.status is TurnStatus.INTERRUPTED


def test_the_deadline_ends_a_turn_with_what_came() -> None:
    turn = Driver(machine())
    turn.feed(Delta("At"))
    turn.feed(Deadline())
    assert turn.machine.turn.status is TurnStatus.INTERRUPTED
    assert turn.machine.turn.error is not None
    assert turn.machine.turn.error.status == 504


def test_the_first_piece_is_saved_as_streaming_and_later_ones_once_a_second() -> None:
    turn = Driver(machine())
    for _ in range(30):
        turn.feed(Delta("x"), after=0.1)
    assert turn.machine.turn.status is TurnStatus.STREAMING
    assert 3 <= len(turn.saves) <= 4
    fenced = [save.compose()[0].version for save in turn.saves]
    assert fenced == [f"v{n}" for n in range(len(fenced))]


def test_silence_sends_heartbeats_and_renews_the_lease() -> None:
    turn = Driver(machine())
    before = turn.machine.turn.lease
    for _ in range(4):
        turn.feed(Tick(), after=1.0)
    assert turn.events.count(Heartbeat()) == 4
    assert len(turn.saves) == 1
    assert turn.machine.turn.lease != before


def test_a_checkpoint_that_fails_is_made_up_for() -> None:
    turn = machine()
    turn.start(0.0)
    turn.feed(Delta("At"), 0.1)
    assert turn.feed(SaveFailed(Unavailable()), 0.1) == []
    effects = turn.feed(Delta(" 100"), 1.5)
    save = effects[-1]
    assert isinstance(save, Save)
    assert save.compose()[0].data["reply"] == "At 100"


def test_a_turn_that_others_ended_is_given_up_and_said_and_its_call_recorded() -> None:
    turn = machine()
    turn.start(0.0)
    turn.feed(Delta("At"), 0.1)
    [save] = turn.feed(SaveFailed(PreconditionFailed()), 0.1)
    assert isinstance(save, Save)
    assert [write.path for write in save.compose()] == [("calls", "r1.answer")]
    [send] = turn.feed(Saved("v1"), 0.1)
    assert isinstance(send, Send)
    assert isinstance(send.event, Error)
    assert not send.event.kept
    assert turn.done
    assert turn.feed(Delta("more"), 0.2) == []


def test_an_answer_that_cannot_be_saved_is_an_error_not_done() -> None:
    turn = machine()
    turn.start(0.0)
    for event in (Delta("At"), Saved("v1"), Finish("stop"), Ended()):
        turn.feed(event, 0.1)
    [send] = turn.feed(SaveFailed(Unavailable()), 0.2)
    assert isinstance(send, Send)
    assert isinstance(send.event, Error)
    assert send.event.turn.error is not None
    assert send.event.turn.error.code == "unavailable"


def test_missing_usage_is_estimated_and_marked() -> None:
    turn = Driver(machine())
    for event in (Delta("At 100 °C."), Finish("stop"), Ended()):
        turn.feed(event)
    call = turn.saves[-1].compose()[2].data
    assert call["estimated"] is True
    assert call["input_tokens"] == 12  # as the prompt was estimated
    assert call["output_tokens"] > 0  # type: ignore[operator]


def test_an_endless_answer_is_cut() -> None:
    turn = Driver(machine())
    for _ in range(50):
        turn.feed(Delta("x" * 10_000))
    assert turn.machine.turn.status is TurnStatus.INTERRUPTED
    assert len(turn.machine.turn.reply) < 420_000


inputs = st.one_of(
    st.text(max_size=5).map(Delta),
    st.sampled_from(["stop", "length"]).map(Finish),
    st.just(Usage(1, 1)),
    st.just(Ended()),
    st.just(Failed(UpstreamBusy())),
    st.just(ClientLeft()),
    st.just(Deadline()),
    st.just(Tick()),
)


@given(st.lists(st.tuples(inputs, st.floats(0, 5)), max_size=30))
def test_any_order_of_events_ends_once_and_loses_nothing(events: list[tuple[TurnInput, float]]) -> None:
    turn = Driver(machine())
    finished = False
    for event, pause in events:
        finished = finished or (isinstance(event, Finish) and not turn.machine.done)
        turn.feed(event, after=pause)
    turn.feed(Ended())
    endings = [event for event in turn.events if isinstance(event, Done | Error)]
    assert len(endings) == 1
    assert turn.events[-1] is endings[0]
    assert turn.machine.turn.reply == turn.reply
    assert (turn.machine.turn.status is TurnStatus.COMPLETED) == finished
    assert turn.saves[-1].compose()[0].data["status"] == turn.machine.turn.status


@pytest.mark.parametrize("count", [0, 1])
def test_the_search_call_is_recorded_with_the_answer(count: int) -> None:
    call = Call(id="c1.t1.search", kind="embedding", model="e", created=timestamp(), outcome="ok")
    turn = Driver(machine(calls=[call] * count))
    turn.feed(Finish("stop"))
    turn.feed(Ended())
    assert [write.path for write in turn.saves[-1].compose()].count(("calls", "c1.t1.search")) == count


def test_the_end_keeps_the_answered_turn_at_hand_beside_the_last_ones() -> None:
    def ended(*inputs: TurnInput) -> Recent:
        made = machine(recent=Recent(through=0, limit=2, exchanges=(first, second)))
        turn = Driver(made)
        for event in inputs:
            turn.feed(event)
        kept = turn.saves[-1].compose()[-1]
        assert isinstance(kept, Set)
        assert kept.path == ("chats", "c1", "recent", "turns")
        return from_text(Recent, str(kept.data["recent"]))

    first, second = (Exchange(prompt=f"Why {n}?", reply=f"Because {n}.", tokens=6) for n in (1, 2))
    answered = ended(Delta("At 100 °C."), Finish("stop"), Ended())
    assert (answered.through, answered.limit, answered.exchanges[0]) == (1, 2, second)
    assert (answered.exchanges[1].prompt, answered.exchanges[1].reply) == ("When does water boil?", "At 100 °C.")
    assert ended(Failed(UpstreamBusy())) == Recent(through=1, limit=2, exchanges=(first, second))
