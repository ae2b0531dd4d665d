"""How much room answers get: a judge that reasons first needs more than its answers are long."""

from __future__ import annotations

from monosemy.interp.judging.replies import Reply

THINKING_ROOM = 2048
"""Tokens that are tried where reasoning has left no room for the answer."""
MOST_ROOM = 8192
"""Tokens beyond which a judge gets no more than the spec allows."""


class Room:
    """Of one judge, in tokens of an answer.  ``own`` is what the question allows by itself."""

    def __init__(self) -> None:
        self.least = 0
        """What every answer gets, since less was seen to be too little."""
        self._most = MOST_ROOM
        self._prose_pays = True
        """Answers that were cut off in prose are believed to be reasoning without marks."""

    def first(self, own: int) -> int:
        return max(own, min(self.least, self._most))

    def more(self, reply: Reply, room: int, own: int) -> int:
        """Room for another attempt after ``reply``, which was cut off; ``room`` where no more is
        to be had."""
        if reply.out_of_room or (reply.cut_in_prose and self._prose_pays):
            wanted = THINKING_ROOM if room < THINKING_ROOM else 4 * room
            return max(room, min(wanted, max(own, self._most)))
        return 2 * room

    def enough(self, room: int) -> bool:
        """Notes that an answer came with so much where less was too little; True where all get it
        from now on, for the first time."""
        if room <= self.least:
            return False
        self.least = room
        return True

    def in_vain(self, reply: Reply, room: int) -> None:
        """Notes that so much room brought no answer either."""
        if reply.cut_in_prose and room >= THINKING_ROOM:
            self._prose_pays = False

    def refused(self, room: int, own: int) -> int:
        """Room for another attempt after the endpoint found this too much; at least ``own``."""
        self._most = max(own, room // 2)
        return self._most
