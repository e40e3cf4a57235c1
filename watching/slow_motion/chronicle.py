"""Writes the story: who is where at each moment, and what the script says of it."""

from __future__ import annotations

from watching.slow_motion.cast import Cast
from watching.slow_motion.gates import Lane
from watching.slow_motion.script import StagedAcceptor
from watching.slow_motion.story import NO_THREAD, Cell, Moment, Step, Story

__all__ = ["Chronicle"]


class Chronicle:
    """Of one stage; by the script's thread, while all others are at rest."""

    def __init__(self, story: Story, acceptor: StagedAcceptor, cast: Cast) -> None:
        self.story = story
        self._acceptor = acceptor
        self._cast = cast
        self._moments: list[Moment] = []
        """Since the last step."""
        self._at_start = False

    def begin(self) -> None:
        """It has started. What happened until then is not told, but where everybody is."""
        self._moments = [self._now()]
        self._at_start = True

    def act(self) -> None:
        """The script has done something. If it has said nothing of the start, that is a step without a caption; and if
        the act itself has moved a thread, or made one, that is a moment."""
        if self._at_start:
            self._close("", 0)
        last = self._last()
        if last is not None and _without_leavers(last) != self._now().cells:
            self.moment()

    def moment(self) -> None:
        """This is one, unless it is like the last."""
        if (now := self._now()) != self._last():
            self._moments.append(now)
            for lane in self._cast.lanes:
                lane.seen_off = lane.ended

    def step(self, caption: str) -> None:
        self._close(caption, sum(step.number > 0 for step in self.story.steps) + 1)

    def so_far(self) -> Story:
        """With a last step that is not over."""
        here = Step("(here)", 0, tuple(self._moments or [self._now()]))
        return Story(self.story.title, self.story.model, self._names(), [*self.story.steps, here])

    def _close(self, caption: str, number: int) -> None:
        self.story.steps.append(Step(caption, number, tuple(self._moments or [self._now()])))
        self.story.lanes = self._names()
        self._moments = []
        self._at_start = False

    def _last(self) -> Moment | None:
        if self._moments:
            return self._moments[-1]
        return self.story.steps[-1].moments[-1] if self.story.steps else None

    def _now(self) -> Moment:
        with self._acceptor.changed:
            places = {client.name: client.place for client in self._acceptor.clients}
            return Moment(tuple(_cell(lane) for lane in self._cast.lanes),
                          tuple(client.name for client in self._acceptor.in_kernel_locked()),
                          tuple(name for name, place in places.items() if place == "the queue"),
                          tuple(name for name, place in places.items() if place == "parked"))

    def _names(self) -> tuple[str, ...]:
        return tuple(lane.name for lane in self._cast.lanes)


def _cell(lane: Lane) -> Cell:
    if lane.ended:
        return NO_THREAD if lane.seen_off else Cell("X")
    if not lane.held:
        return Cell("_")
    return Cell(lane.letter, lane.client.name, lane.client.begun) if lane.client else Cell(lane.letter)


def _without_leavers(moment: Moment) -> tuple[Cell, ...]:
    return tuple(NO_THREAD if cell.letter == "X" else cell for cell in moment.cells)
