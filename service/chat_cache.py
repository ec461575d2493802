"""What this process knows of the chats that it answered last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from service.backends.interfaces import Snapshot
from service.models import Chat, Scope

MOST_LEFT = 500
"""Chats; those of more than `MAX_LEFT_CHARS` are read each time, so that all of them take 10 MB at most."""

MAX_LEFT_CHARS = 20_000


class LeftChat(NamedTuple):
    """A chat as its last turn left it, with its version, and the turns up to then."""

    chat: Chat
    version: str
    recent: Snapshot


class ChatCache:
    """The chats that this process answered last, each to be taken once.

    They spare the next turn a read, and decide nothing: who takes one commits only if the chat still has its version. What they hold of
    the title may be older than another process's renaming, so nothing of it is written.
    """

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[Scope, str], LeftChat] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, scope: Scope, left: LeftChat) -> None:
        if len(str(left.recent.data["recent"])) > MAX_LEFT_CHARS:
            return
        with self._lock:
            self._left[scope, left.chat.id] = left
            while len(self._left) > MOST_LEFT:
                self._left.popitem(last=False)

    def take(self, scope: Scope, chat: str) -> LeftChat | None:
        with self._lock:
            return self._left.pop((scope, chat), None)
