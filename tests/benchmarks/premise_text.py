"""How long does it take to write a premise as text? Ours against a pattern compiled for each name, as before.

    python tests/benchmarks/premise_text.py path/to/corpus.jsonl

Texts are compared first. Then the sides take turns on other premises each round; time is CPU time of one thread.
"""

import re
import statistics
import sys
import time

from common import Premise, split_name
from retrieval.corpus import Corpus

ROUNDS, PREMISES = 5, 2000


def by_pattern(premise: Premise) -> str:
    """The text, found by a pattern that is compiled for the name."""
    parts = split_name(premise.full_name)
    for i in range(len(parts)):
        if all(part in premise.code for part in parts[i:]):
            name = r"\.".join(f"(?:«{re.escape(part)}»|{re.escape(part)})" for part in parts[i:])
            pattern = rf"(?<!\S)(?:_root_\.)?{name}(?![\w'!?«»]|\.[\w«])"
            text, count = re.subn(pattern, lambda _: f"<a>{premise.full_name}</a>", premise.code)
            if count:
                return text
    return premise.code


def main() -> None:
    """Compare, time in turns, print microseconds of a premise."""
    premises = list(Corpus(sys.argv[1]))[: ROUNDS * PREMISES]
    found: dict[str, list[float]] = {"pattern": [], "ours": []}
    for start in range(0, len(premises), PREMISES):
        some = premises[start : start + PREMISES]
        texts = []
        for name, write in (("pattern", by_pattern), ("ours", Premise.serialize)):
            begun = time.process_time()
            texts.append([write(premise) for premise in some])
            found[name].append(1e6 * (time.process_time() - begun) / len(some))
        assert texts[0] == texts[1]
    print(", ".join(f"{name} {statistics.median(times):.1f} us" for name, times in found.items()))


if __name__ == "__main__":
    main()
