"""Prompt templates: the exact texts, what comes back from a completion, and what a prompt loses to fit."""

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from common import ConfigError, DataError, Pos, Premise, format_augmented_state
from generator.prompts.fields import FittedPrompt, PromptFields, PromptTooLongError, num_bytes
from generator.prompts.templates import TEMPLATES, PromptTemplate, find_template, get_template

STATE = "m n : ℕ\nh : Nat.Coprime m n\n⊢ Nat.gcd m n = 1"

# the prompt of the tutorial on neural theorem proving, for its example state
TUTORIAL = """/- You are proving a theorem in Lean 4.
You are given the following information:
- The current proof state, inside [STATE]...[/STATE]

Your task is to generate the next tactic in the proof.
Put the next tactic inside [TAC]...[/TAC]
-/
[STATE]
m n : ℕ
h : Nat.Coprime m n
⊢ Nat.gcd m n = 1
[/STATE]
[TAC]
"""

PROMPTS = {
    "reprover": STATE,
    "llmstep": f"[GOAL]{STATE}[PROOFSTEP]",
    "vllm-reprover": f"[GOAL]\n{STATE}\n[PROOFSTEP]\n",
    "ntp-st": TUTORIAL,
    "bfs-prover": f"{STATE}:::",
    "internlm2-step": f"<|im_start|>user\nDECL t\nGOAL {STATE}\n<|im_end|>\n<|im_start|>assistant\n",
    "internlm2.5-step": "<|im_start|>user\n---\nNAME: t\n\n---\nPROOF_BEFORE: intro h\n\n---\n"
    f"STATE_BEFORE: {STATE}\n\n---\nTACTIC: <|im_end|>\n<|im_start|>assistant\n",
}
COMPLETIONS = {"ntp-st": "simp\n[/TAC]", "ntp-ctx": "simp\n[/TAC]", "internlm2-step": "PROOFSTEP simp"}

SHORTENING = [template for template in TEMPLATES.values() if not template.keeps_state]
every_template = pytest.mark.parametrize("template", TEMPLATES.values(), ids=list(TEMPLATES))


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_the_one_that_published_models_were_trained_on(name: str) -> None:
    assert get_template(name).format(STATE, full_name="t", proof="intro h", context="import A") == PROMPTS[name]


def test_ntp_ctx_tells_the_file_in_front_of_the_state() -> None:
    prompt = get_template("ntp-ctx").format(STATE, context="import A\n\ntheorem t : 1 = 1 := by")
    assert "\n-/\n[CTX]\nimport A\n\ntheorem t : 1 = 1 := by\n[/CTX]\n[STATE]\nm n : ℕ\n" in prompt
    assert "- The file contents up to the current tactic, inside [CTX]...[/CTX]\n- The current proof state" in prompt


@every_template
def test_a_completion_is_the_published_one(template: PromptTemplate) -> None:
    assert template.complete("simp") == COMPLETIONS.get(template.name, "simp")


@every_template
def test_fields_are_those_that_change_the_prompt(template: PromptTemplate) -> None:
    values: dict[str, Any] = {
        "premises": ["theorem a : p"],
        "context": "c",
        "full_name": "n",
        "proof": "t",
        "heading": "h",
    }
    plain = template.format("⊢ p")
    changing = {name for name, value in values.items() if template.format("⊢ p", **{name: value}) != plain}
    assert template.fields == changing | {"state"}


# ------------------------------------------------------------------------------------------------
# Completions


@every_template
@given(tactic=st.text(min_size=1))
@example(tactic="rw [foo,\n  bar]")
@example(tactic="exact h -- [TAC] [STATE] PROOFSTEP")
@example(tactic="PROOFSTEP simp")
def test_what_is_completed_is_parsed(template: PromptTemplate, tactic: str) -> None:
    assume(tactic.strip() and MARKERS.get(template.name, "no marker") not in tactic)
    assert template.parse(template.complete(tactic)) == tactic.strip()


MARKERS = {"ntp-st": "[/TAC]", "ntp-ctx": "[/TAC]", "bfs-prover": ":::"}
MARKERS |= dict.fromkeys(("internlm2-step", "internlm2.5-step"), "<|im_end|>")


@pytest.mark.parametrize("name", MARKERS)
@given(before=st.text(max_size=5), after=st.text(max_size=5))
def test_a_tactic_that_would_not_come_back_is_refused(name: str, before: str, after: str) -> None:
    with pytest.raises(DataError, match=f"template {name} cannot carry tactic .*it holds text of the template"):
        get_template(name).complete(f"{before}x{MARKERS[name]}{after}x")


@every_template
@pytest.mark.parametrize("tactic", ["", " \n"])
def test_an_empty_tactic_is_refused_and_none_is_parsed(template: PromptTemplate, tactic: str) -> None:
    with pytest.raises(DataError, match="it is empty"):
        template.complete(tactic)
    assert template.parse(template.begin + tactic + template.end) is None


def test_a_completion_that_was_cut_off_holds_no_tactic() -> None:
    assert get_template("ntp-st").parse("rw [← Nat.gcd_comm") is None
    assert get_template("ntp-st").parse("simp\n[/TAC") is None
    assert get_template("internlm2-step").parse("simp") is None


def test_what_models_write_around_a_tactic_is_left_out() -> None:
    assert get_template("ntp-st").parse(" simp\n[/TAC]\n\n[TAC]\nring\n[/TAC]") == "simp"
    assert get_template("ntp-st").parse("simp[/TAC]") == "simp"
    assert get_template("bfs-prover").parse(f"{STATE}:::simp") == "simp"
    assert get_template("internlm2-step").parse("PROOFSTEP simp<|im_end|>\n") == "simp"


# ------------------------------------------------------------------------------------------------
# Prompts


@every_template
@given(state=st.text(), context=st.text(), full_name=st.text())
def test_a_prompt_is_read_back(template: PromptTemplate, state: str, context: str, full_name: str) -> None:
    assume(not any(mark in context + full_name for mark in ("[/CTX]", "\nGOAL", "\n---")))
    assume("\n\n" not in state or not template.takes_premises)  # see the tests of premises
    fields = template.read(template.format(state, context=context, full_name=full_name))
    assert fields is not None and fields.state == state
    assert fields.context == (context if "context" in template.fields else "")
    assert fields.full_name == (full_name if "full_name" in template.fields else "")


@pytest.mark.parametrize("name", ["reprover", "vllm-reprover"])
def test_premises_are_told_from_the_goals_behind_them(name: str) -> None:
    template, premises = (
        get_template(name),
        ["lemma best : a", "lemma second : b\n\nattribute [simp] second", "theorem worst"],
    )
    state = "case a\np : Prop\n⊢ p\n\ncase b\n⊢ q"
    fields = template.read(template.format(state, premises=premises))
    assert fields is not None and fields.state == state
    assert list(fields.premises) == [premises[0], *premises[1].split("\n\n")[::-1], premises[2]]
    assert template.fit(fields).text == template.format(state, premises=premises)
    shortened = template.fit(fields, max_tokens=len(template.format(state).encode()) + 20).text
    assert shortened == template.format(state, premises=premises[:1]), "the worst go first, the goal never"
    assert template.read(template.format("a\n\nb")) is None, "premises or goals, who knows"
    alone = template.read(template.format("no mark of a goal"))
    assert alone is not None and alone.state == "no mark of a goal"


def test_a_prompt_of_another_template_is_not_read() -> None:
    assert get_template("ntp-st").read(get_template("ntp-ctx").format(STATE)) is None
    assert get_template("llmstep").read(STATE) is None


def test_a_template_is_found_by_the_names_of_the_data_and_by_the_prompt() -> None:
    assert find_template("state_tactic", "x") is find_template("ntp-st", "x") is TEMPLATES["ntp-st"]
    assert find_template("context_state_tactic", "x") is TEMPLATES["ntp-ctx"]
    for name, prompt in PROMPTS.items():
        found = find_template("instruction_v3", prompt)
        assert found is (None if name == "reprover" else TEMPLATES[name])
    assert find_template("", "Write the next tactic.") is None


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="template is 'ntp'; choose one of reprover, llmstep, .*internlm2.5-step"):
        get_template("ntp")


# ------------------------------------------------------------------------------------------------
# Fitting

PREMISES = [Premise("A.lean", f"a{i}", Pos(i, 1), Pos(i, 9), f"theorem a{i} : p") for i in range(1, 5)]
LONG = "h1 : a\nh2 : b\nh3 : c\n⊢ goal\n\ncase two\n⊢ other"


def test_premises_stand_as_in_the_encoder_decoder() -> None:
    for max_bytes in (20, 60, 110, 500):
        prompt = get_template("reprover").format("h : q\n⊢ p", premises=PREMISES, max_tokens=max_bytes)
        assert prompt == format_augmented_state("h : q\n⊢ p", PREMISES, max_bytes + 1)


def test_a_prompt_loses_premises_then_lines_of_context_then_goals_and_hypotheses() -> None:
    context = "line 1\nline 2\n"
    template = PromptTemplate("all", "{context}|{state}|", takes_premises=True)
    fields = PromptFields(LONG, ["best", "worst"], context)
    whole = template.fit(fields)
    assert whole == FittedPrompt("line 1\nline 2\n|worst\n\nbest\n\n" + LONG + "|")
    fitted = [template.fit(fields, n) for n in range(num_bytes(whole.text), num_bytes("||⊢ goal") - 1, -1)]
    seen = list(dict.fromkeys(f.text for f in fitted))
    assert seen[:6] == [
        whole.text,
        f"line 1\nline 2\n|best\n\n{LONG}|",
        f"line 1\nline 2\n|{LONG}|",
        f"line 2\n|{LONG}|",
        f"|{LONG}|",
        "|h1 : a\nh2 : b\nh3 : c\n⊢ goal|",
    ]
    assert seen[-1] == "|⊢ goal|"
    assert fitted[-1] == FittedPrompt("|⊢ goal|", num_bytes(LONG) - num_bytes("⊢ goal"))
    assert {f.num_cut_bytes for f in fitted if LONG in f.text} == {0}


@pytest.mark.parametrize("template", SHORTENING, ids=lambda template: template.name)
@given(
    hypotheses=st.lists(st.text("abλ→ :", max_size=30), max_size=12),
    goal=st.text("pq∧ ∨", max_size=20),
    others=st.lists(st.text("ab⊢ ", min_size=1, max_size=20), max_size=3),
    context=st.text("xy\n", max_size=60),
    room=st.integers(0, 250),
)
def test_a_prompt_keeps_its_limit_and_the_whole_goal(
    template: PromptTemplate, hypotheses: list[str], goal: str, others: list[str], context: str, room: int
) -> None:
    first = "\n".join([*(f"h : {h}" for h in hypotheses), f"⊢ {goal}"])
    state = "\n\n".join([first, *others])
    least = num_bytes(template.format(f"⊢ {goal}", full_name="t"))
    fields = PromptFields(state, ["theorem a : p"], context, "t", context)
    fitted = template.fit(fields, least + room)
    assert num_bytes(fitted.text) <= least + room and f"⊢ {goal}" in fitted.text
    if num_bytes(template.fit(fields).text) <= least + room:
        assert fitted == template.fit(fields)
    with pytest.raises(PromptTooLongError, match="the goal"):
        template.fit(fields, least - 1)


def test_a_problem_of_symbolic_mathematics_is_never_shortened() -> None:
    template, problem = get_template("symbolic"), "sub Y' mul x cos x\n\nadd x\n\u22a2 x"
    assert template.format(problem, max_tokens=num_bytes(problem) + 13) == f"{problem} <SPECIAL_5> "
    with pytest.raises(PromptTooLongError, match=r"template symbolic: .* raise max_seq_len"):
        template.format(problem, max_tokens=num_bytes(problem) + 12)


def test_a_state_without_a_turnstile_is_never_cut_inside_its_first_block() -> None:
    template = get_template("llmstep")
    with pytest.raises(PromptTooLongError):
        template.format("top 1\nleft 2", max_tokens=28)
    assert template.format("top 1\nleft 2\n\nmore", max_tokens=32) == "[GOAL]top 1\nleft 2[PROOFSTEP]"


def test_a_slow_tokenizer_is_asked_few_times() -> None:
    asked = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text.split())

    state = "\n".join(f"h{i} : p {'q ' * (i % 7)}" for i in range(3000)) + "\n⊢ p"
    prompt = get_template("ntp-st").format(state, max_tokens=500, count=count)
    assert 490 <= count(prompt) <= 500 and "⊢ p\n[/STATE]" in prompt
    assert len(asked) < 15
