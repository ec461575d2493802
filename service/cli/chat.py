"""`brainstem chat`: ask an app in the terminal, on the same backends as the server."""

from __future__ import annotations

import re
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING

import click

from service.cli.opening import Opened, open_app, read_settings
from service.cli.options import INTERRUPTED, WORDS, app_argument, json_option, user_option
from service.cli.output import place, print_json, safe, sentence, shaped
from service.errors import BadRequest, BrainstemError

if TYPE_CHECKING:
    from service.models import Passage, Turn

CHAT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CITED = re.compile(r"\[(\d{1,3})\]")
TICK_SECONDS = 0.1
ENDS = {
    "length": "The answer was cut at the app's `model.max_output_tokens`.",
    "content_filter": "The model's provider withheld the rest of the answer.",
}


class Interruption:
    """A handler of Ctrl-C that takes the first one as a wish, to be met between two events; the second one ends the command."""

    wished = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.wished:
            raise KeyboardInterrupt
        self.wished = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    wish = Interruption()
    before = signal.signal(signal.SIGINT, wish)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class Conversation:
    """One chat in the terminal."""

    opened: Opened
    chat: str
    as_json: bool
    exit_code: int = 0

    def ask(self, text: str) -> None:
        """Ask, print the answer as it comes and what it rests on; what goes wrong is a sentence on standard error."""
        try:
            with interruptible() as wish:
                turn = self._answer(text, wish)
        except BrainstemError as error:
            click.echo(f"Error: {sentence(error)}", err=True)
            self.exit_code = 1
            return
        if self.as_json:
            from service.api.schemas import TurnAnswer

            print_json(shaped(turn, TurnAnswer), indent=0)
        else:
            self._print_end(turn)
        self._judge(turn, wish)

    def _answer(self, text: str, wish: Interruption) -> Turn:
        """Have the question answered until its end or Ctrl-C, and return the turn as it is stored."""
        from service.api.answers import told
        from service.api.pump import Pump
        from service.chat.events import Done, Error, Text
        from service.chat.prepare import Prepared

        services, scope = self.opened.services, self.opened.scope
        prepared = services.turns.prepare(scope, self.opened.app, self.chat, None, text)
        assert isinstance(prepared, Prepared)  # a new id repeats nothing
        pump = Pump(
            prepared,
            services.backends.model,
            services.conversations,
            services.loop.saving,
            turn_seconds=services.settings.turn_seconds,
            tick=TICK_SECONDS,
        )
        turn = prepared.machine.turn
        with closing(told(services.loop, pump)) as events:
            for event in events:
                if isinstance(event, Text) and not self.as_json:
                    click.echo(safe(event.text), nl=False)
                if isinstance(event, Done | Error):
                    return event.turn
                if wish.wished:
                    break
        return services.conversations.turn(scope, self.chat, turn.id)

    def _print_end(self, turn: Turn) -> None:
        if turn.reply:
            click.echo()
        sources = cited(turn.reply, turn.citations) if turn.reply else []
        if sources:
            click.echo()
        for number, passage in sources:
            click.secho(f"[{number}] {place(passage)}", dim=True)

    def _judge(self, turn: Turn, wish: Interruption) -> None:
        """Say on standard error what kept the answer from being whole."""
        if turn.error is not None:
            click.echo(f"Error: {turn.error.detail or turn.error.title + '.'}", err=True)
            self.exit_code = 1
        elif wish.wished and turn.finish_reason is None:
            click.secho("Stopped; what came is kept.", dim=True, err=True)
            self.exit_code = INTERRUPTED
        elif turn.finish_reason in ENDS:
            click.secho(ENDS[turn.finish_reason], dim=True, err=True)


def cited(reply: str, passages: tuple[Passage, ...]) -> list[tuple[int, Passage]]:
    """The passages that an answer names by number, or all that it was given if it names none."""
    numbered = list(enumerate(passages, 1))
    named = {int(number) for number in CITED.findall(reply)}
    return [(number, passage) for number, passage in numbered if number in named] or numbered


@click.command()
@app_argument
@click.argument("message", required=False, type=WORDS)
@user_option
@click.option("--chat", "chat_id", metavar="ID", help="Go on with this chat, or begin it.  [default: a new one]")
@json_option
def chat(app: str, message: str | None, user: str, chat_id: str | None, as_json: bool) -> None:
    """Ask an app and watch it answer.

    The passages that it cites come after the answer. Without MESSAGE it asks for one after the other; Ctrl-C stops an answer, Ctrl-D ends. Each line of a pipe is a
    message; with `-` as MESSAGE the whole pipe is one. With --json, each answer is a line of JSON.
    """
    if chat_id is not None and not CHAT_ID.fullmatch(chat_id):
        raise BadRequest("A chat's id has 1 to 64 of the characters A-Z, a-z, 0-9, _ and -.")
    # In a silent stream, heartbeats are the moments at which Ctrl-C is looked at.
    settings = replace(read_settings(), heartbeat_seconds=TICK_SECONDS)
    conversation = Conversation(open_app(app, user, settings), chat_id or uuid.uuid4().hex, as_json)
    if message is not None:
        conversation.ask(sys.stdin.read() if message == "-" else message)
        raise click.exceptions.Exit(conversation.exit_code)
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if line.strip():
                conversation.ask(line.strip())
        raise click.exceptions.Exit(conversation.exit_code)
    talk(conversation, user)


def talk(conversation: Conversation, user: str) -> None:
    """Ask for messages until Ctrl-D, or Ctrl-C where a message is asked for."""
    import readline  # noqa: F401  # gives `input` a line editor and a history

    click.secho(
        f"{safe(conversation.opened.app.file.name)}, as `{safe(user)}`. Ctrl-C stops an answer, Ctrl-D ends.", dim=True
    )
    while True:
        try:
            message = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if message:
            conversation.ask(message)
