"""Work of several processes comes in order, and tokenizers work in those that are forked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.training import processes
from retrieval.training.processes import in_order, num_processes, serial_tokenizers

ROOT = Path(__file__).resolve().parents[3]
# The parent tokenises in threads, and then its workers tokenise what they collate.
TOKENIZING = """
import sys
from pathlib import Path
from common import load_tokenizer
from generator.datamodule import GeneratorDataModule
from tests.fakes import write_splits
from tests.generator.causal_fakes import save_bpe

folder = Path(sys.argv[1])
save_bpe(folder / "bpe")
load_tokenizer(folder / "bpe")(["p q : Prop"] * 1000)
data = GeneratorDataModule(
    str(write_splits(folder / "data")), str(folder / "bpe"), max_inp_seq_len=64, max_oup_seq_len=32, num_workers=1
)
data.setup("fit")
print(sum(len(batch["state"]) for loader in (data.train_dataloader(), data.val_dataloader()) for batch in loader))
"""


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_found_comes_in_the_order_of_its_parts(count: int) -> None:
    base = [7]  # forked processes have what this one has

    def work(part: range) -> tuple[int, bool]:
        return sum(part) + base[0], os.getpid() != parent

    parent = os.getpid()
    parts = [range(number, number + 3) for number in range(20)]
    found = list(in_order(work, parts, count))
    assert [total for total, _ in found] == [sum(part) + 7 for part in parts]
    assert {is_child for _, is_child in found} == {count > 1}


def test_an_error_of_a_process_is_this_ones() -> None:
    def work(part: int) -> int:
        return 1 // part

    found = in_order(work, [2, 1, 0, 1], 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_where_a_process_is_killed_the_rest_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, said = os.getpid(), list[str]()
    monkeypatch.setattr(processes, "rank_zero_warn", said.append)

    def work(part: int) -> int:
        if os.getpid() != parent and part == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    assert list(in_order(work, list(range(8)), 2)) == list(range(8))
    assert len(said) == 1 and "was killed" in said[0]


def test_few_parts_and_one_core_are_not_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    assert [num_processes(parts) for parts in (0, 1, 3, 4, 7, 8, 100)] == [1, 1, 1, 2, 3, 4, 4]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(200), raising=False)
    assert num_processes(1000) == processes.MAX_PROCESSES
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "False")
    assert num_processes(1000) == 1, "whoever asks for one thread gets one"


@pytest.mark.parametrize("before", [None, "true"])
def test_the_environment_is_as_before(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if before is not None:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    with serial_tokenizers():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before


def test_workers_of_a_loader_tokenise_after_this_process_has(tmp_path: Path) -> None:
    """With TOKENIZERS_PARALLELISM true they waited for threads that they do not have."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-c", TOKENIZING, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, err = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
            for pid in (*map(int, workers.split()), process.pid):  # workers have groups of their own
                os.kill(pid, signal.SIGKILL)
            pytest.fail("workers wait without end")
    assert process.returncode == 0, err
    assert int(out.split()[-1]) > 8
