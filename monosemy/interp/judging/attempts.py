"""One question's attempts: with how much room, and how hot, it is asked again."""

from __future__ import annotations

from monosemy.interp.judging.replies import Reply
from monosemy.interp.judging.room import Room

REASK_TEMPERATURE = 0.7
"""A judge at temperature 0 would only repeat a useless answer."""


class Attempts:
    """Begins with the room that the question allows by itself, ``own``, or that the judge was seen
    to need, and ends after ``tries``; reasoning that takes all the room is forgiven once."""

    def __init__(self, rooms: Room, own: int, temperature: float, tries: int) -> None:
        self._rooms, self._own = rooms, own
        self.room, self.temperature = rooms.first(own), temperature
        self.number = 0
        """Of those made; seeds the next."""
        self._left, self._reprieve = tries, 1
        self.wanted_room = False
        """An attempt failed since reasoning took its room."""

    @property
    def over(self) -> bool:
        return self._left <= 0

    def begin(self) -> None:
        self._left -= 1

    def after(self, reply: Reply) -> None:
        """Prepares the next attempt after a useless reply."""
        self.number += 1
        if reply.finish != "length":
            self.temperature = max(self.temperature, REASK_TEMPERATURE)
            return
        self._rooms.in_vain(reply, self.room)
        more = self._rooms.more(reply, self.room, self._own)
        if more == self.room:
            self._left = 0
        elif reply.out_of_room:
            self._left, self._reprieve = self._left + self._reprieve, 0
        self.wanted_room |= reply.out_of_room or reply.cut_in_prose
        self.room = more

    def after_refusal(self) -> bool:
        """Prepares an attempt with less room, as the endpoint refuses so much; False where there is
        no less to be had."""
        if self.room <= self._own:
            return False
        self.number, self._left = self.number + 1, self._left + 1
        self.room = self._rooms.refused(self.room, self._own)
        return True
