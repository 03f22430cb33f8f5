"""A program that looks like coqidetop until it is asked for something; its name says what it does then.

It is copied under other names: `crashes`, `crashes_later`, `hangs`, `deaf`, `babbles`, `other_protocol`, `old`, `mute`.
"""

import os
import signal
import sys
import time
from pathlib import Path

BEHAVIOUR = Path(sys.argv[0]).name
GOALS = "<list><goal><string>1</string><list/>P<option val='none'/></goal></list><list/><list/><list/>"


def main() -> None:
    if "--version" in sys.argv:
        versions = {
            "old": "The Coq Proof Assistant, version 8.9.1",
            "new": "The Rocq Prover, version 9.1.0",
            "mute": "hm",
        }
        print(versions.get(BEHAVIOUR, "The Coq Proof Assistant, version 8.16.1"))
    elif "-where" in sys.argv:
        print(Path(sys.argv[0]).parent)
    elif BEHAVIOUR == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)
    else:
        serve()


def serve() -> None:
    """Answer as Coq does while nothing is wrong."""
    if BEHAVIOUR == "hangs":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    buffer, number = b"", 1
    while data := os.read(0, 65536):
        buffer += data
        while b"</call>" in buffer:
            call, _, buffer = buffer.partition(b"</call>")
            number += 1
            answer(call.decode(), number)


def answer(call: str, number: int) -> None:
    tactic = "( " in call and "Lemma" not in call
    if BEHAVIOUR == "crashes" or BEHAVIOUR == "crashes_later" and tactic:
        sys.stderr.write("Fatal error: exception Not_found\n")
        os.kill(os.getpid(), signal.SIGSEGV)
    if BEHAVIOUR == "out_of_memory" and tactic:
        sys.stderr.write("Fatal error: out of memory\n")
        os.abort()
    if BEHAVIOUR == "hangs" and tactic:
        time.sleep(60)
    if BEHAVIOUR == "babbles":
        say("<value>hello</value>")
    elif BEHAVIOUR == "other_protocol":
        say('<value val="good"><unit/></value>')
    elif 'val="Goal"' in call:
        say(f'<value val="good"><option val="some"><goals>{GOALS}</goals></option></value>')
    else:
        say(f'<value val="good"><pair><state_id val="{number}"/></pair></value>')


def say(text: str) -> None:
    os.write(1, text.encode())


main()
