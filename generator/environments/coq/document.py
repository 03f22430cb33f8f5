"""The document of one coqidetop: a chain of sentences that grows, and in which every node can be visited again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from generator.environments.coq import messages
from generator.environments.coq.channel import Channel, DiedError, TimeIsUpError
from generator.environments.coq.messages import Answer, GarbledAnswerError
from generator.environments.coq.printing import Goals

_HOUSEKEEPING_S = 60.0  # for what takes milliseconds: what takes longer is broken
_T = TypeVar("_T")


class RejectedError(Exception):
    """Coq does not accept a sentence; the message is Coq's.

    Attributes:
        after: the state after which it stands, 0 if it was not even parsed
    """

    def __init__(self, message: str, after: int = 0) -> None:
        super().__init__(message)
        self.after = after


class Document:
    """Sentences that Coq has read, each with the number of its state.

    `Edit_at` throws away whatever is not before the state that it goes to, so that a search would lose all branches but
    one. `Back k` as a sentence of its own makes another node that is the same as the one k before, loses nothing, and
    costs the same at any depth: the document stays one chain.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.nodes = [self._read(channel.ask(messages.INIT, _HOUSEKEEPING_S), Answer.state_id)]

    def append(self, sentence: str, timeout_s: float) -> None:
        """Put a sentence at the end. Within a proof it is parsed, and runs when the goals are asked for.

        Raises:
            RejectedError: if it cannot be parsed; nothing was added
            TimeIsUpError: after which the document is as it was
            DiedError: if the process ended
        """
        try:
            answer = self._channel.ask(messages.add(sentence, self.nodes[-1]), timeout_s)
        except TimeIsUpError:
            self.cut(len(self.nodes))  # it may or may not have added a node
            raise
        if not answer.good:
            raise RejectedError(answer.error)
        self.nodes.append(self._read(answer, Answer.state_id))

    def goals(self, timeout_s: float) -> Goals | None:
        """Run what was appended, and return the goals at its end, None outside of a proof.

        Raises:
            RejectedError: if a sentence fails
            TimeIsUpError: if it takes too long; cut the document before it goes on
            DiedError: if the process ended
        """
        answer = self._channel.ask(messages.GOAL, timeout_s)
        if not answer.good:
            raise RejectedError(answer.error, self._read(answer, Answer.state_id))
        return self._read(answer, Answer.goals)

    def status(self, timeout_s: float) -> None:
        """Run what was appended, within a proof or not; raises as `goals` does."""
        answer = self._channel.ask(messages.STATUS, timeout_s)
        if not answer.good:
            raise RejectedError(answer.error, self._read(answer, Answer.state_id))

    def ask(self, command: str, timeout_s: float, index: int = -1) -> tuple[str, ...]:
        """Return what a command prints at the node of number `index`; the document stays as it is.

        Raises:
            RejectedError: if the command fails
            TimeIsUpError: if it takes too long
            DiedError: if the process ended
        """
        answer = self._channel.ask(messages.query(command, self.nodes[index]), timeout_s, with_messages=True)
        if not answer.good:
            raise RejectedError(answer.error)
        return answer.messages

    def back_to(self, index: int) -> None:
        """Make the end of the document the same as the node of number `index`."""
        steps = len(self.nodes) - 1 - index
        if steps:
            try:
                self.append(f"Back {steps}.", _HOUSEKEEPING_S)
            except (RejectedError, TimeIsUpError) as error:
                self._channel.close()
                raise DiedError(f"it does not go back: {error}", "crash") from error

    def cut(self, length: int) -> None:
        """Throw away all but the first `length` nodes."""
        try:
            answer = self._channel.ask(messages.edit_at(self.nodes[length - 1]), _HOUSEKEEPING_S)
            if answer.good:
                del self.nodes[length:]
                return
            reason = answer.error
        except TimeIsUpError:
            reason = "no answer"
        self._channel.close()
        raise DiedError(f"it does not go back: {reason}", "crash")

    def _read(self, answer: Answer, part: Callable[[Answer], _T]) -> _T:
        try:
            return part(answer)
        except GarbledAnswerError as error:
            self._channel.close()
            raise DiedError(str(error), "crash") from error
