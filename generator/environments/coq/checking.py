"""A whole proof from nothing, by another program: coqtop runs the file up to the theorem, the proof, and `Qed`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from generator.environments.coq.assumptions import Assumption, read_assumptions
from generator.environments.coq.channel import out_of_memory
from generator.environments.coq.confinement import Confinement, how_it_ended, kill, last_words
from generator.environments.coq.declarations import proof_options
from generator.environments.coq.programs import Programs
from generator.environments.coq.sources import Source

_FLAGS = ("-q", "-w", "none", "-native-compiler", "no", "-batch")
_OUTPUT = "assumptions"


class NotAcceptedError(Exception):
    """Coq does not accept a text; the message is Coq's, or says which limit was reached."""


class Checker:
    """Runs texts with coqtop, each in a new process.

    Args:
        programs: of this machine
        confinement: of the processes
    """

    def __init__(self, programs: Programs, confinement: Confinement) -> None:
        self._programs = programs
        self._confinement = confinement

    def assumptions(
        self, source: Source, offset: int, name: str, sentences: Sequence[str], timeout_s: float
    ) -> list[Assumption]:
        """Prove the theorem at `offset`, and return what its proof rests on.

        Args:
            source: its file
            offset: of its statement
            name: of what it declares
            sentences: the proof, without `Qed`
            timeout_s: for all

        Raises:
            NotAcceptedError: if the proof is refused
        """
        number = source.number_at(offset)
        statement = source.sentences[number]
        options = proof_options(source.sentences, number)
        proof = [*([options] if options else ["Proof."]), *sentences, "Qed."]
        asking = f'Redirect "{_OUTPUT}" Print Assumptions {name}.'
        text = "\n".join([source.text[: statement.end], *proof, asking, ""])
        return read_assumptions(self._run(source, text, timeout_s))

    def _run(self, source: Source, text: str, timeout_s: float) -> str:
        """Run a text; return what it printed into a file of its own, where no tactic can print.

        A coqtop that was killed is started once more: the death may have come from elsewhere.
        """
        with tempfile.TemporaryDirectory(dir=self._confinement.folder) as folder:
            file = Path(folder, "check.v")
            file.write_bytes(text.encode("utf-8"))
            options = (*source.options, "-topfile", str(source.path))
            command = [*self._programs.coqtop, *_FLAGS, *options, "-l", str(file)]
            ended, said = self._ended(command, Path(folder), timeout_s)
            if ended.returncode < 0 and not out_of_memory(said):
                ended, said = self._ended(command, Path(folder), timeout_s)
            written = Path(folder, f"{_OUTPUT}.out")
            if ended.returncode != 0 or not written.is_file():
                raise NotAcceptedError(_reason(said) or f"coqtop ended with {how_it_ended(ended)}")
            return written.read_text(encoding="utf-8", errors="replace")

    def _ended(self, command: list[str], folder: Path, timeout_s: float) -> tuple[subprocess.Popen[bytes], str]:
        """Run a command to its end; return it and what it said. What a tactic prints would fill our own memory."""
        with tempfile.TemporaryFile() as errors:
            process = self._confinement.start(command, errors, folder, talks=False)
            try:
                process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise NotAcceptedError(f"not done in {timeout_s:g} s") from None
            finally:
                kill(process)
            return process, last_words(errors)


def _reason(said: str) -> str:
    """Return what coqtop says after the place of an error."""
    _, _, message = said.rpartition("Error:")
    return " ".join((message or said).split())[:1000]
