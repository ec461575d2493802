"""The turn: `Turns.prepare()` does all that can refuse, then `TurnMachine`, which knows no I/O, turns model events into client
events and writes.

Whoever carries the stream (the pump) feeds the machine and does what it says, in order: `Send` an event to the client,
`Save` writes and feed back `Saved` or `SaveFailed`. Statuses: ACCEPTED → STREAMING → COMPLETED | INTERRUPTED | FAILED.
"""
