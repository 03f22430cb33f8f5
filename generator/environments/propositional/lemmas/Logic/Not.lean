import Logic.Prelude

/-!
Negation, which is implication of `False`.
What Lean states for any `Sort` is stated for `Prop` here, in this file and the others.
-/

theorem not_false : ¬False := fun h => h

theorem Not.intro {a : Prop} (h : a → False) : ¬a := h

theorem Not.elim {a b : Prop} (H1 : ¬a) (H2 : a) : b := absurd H2 H1

theorem mt {a b : Prop} (h₁ : a → b) (h₂ : ¬b) : ¬a := fun ha => h₂ (h₁ ha)

theorem Function.mt {a b : Prop} : (a → b) → ¬b → ¬a := fun h hb ha => hb (h ha)

theorem Not.imp {a b : Prop} (H2 : ¬b) (H1 : a → b) : ¬a := mt H1 H2

theorem not_not_intro {p : Prop} (h : p) : ¬¬p := fun hn => hn h

theorem not_of_not_imp {a b : Prop} : ¬(a → b) → ¬b := fun h hb => h (fun _ => hb)

theorem not_not_of_not_imp {a b : Prop} : ¬(a → b) → ¬¬a := by
  intro h hn
  apply h
  intro ha
  contradiction

theorem not_imp_of_and_not {a b : Prop} : a ∧ ¬b → ¬(a → b) := fun h hab => h.2 (hab h.1)

theorem and_not_self {a : Prop} : ¬(a ∧ ¬a) := fun h => absurd h.1 h.2

theorem not_and_self {a : Prop} : ¬(¬a ∧ a) := fun h => absurd h.2 h.1

theorem not_and_of_not_left {a : Prop} (b : Prop) : ¬a → ¬(a ∧ b) := fun ha h => ha h.1

theorem not_and_of_not_right (a : Prop) {b : Prop} : ¬b → ¬(a ∧ b) := fun hb h => hb h.2

theorem not_and_of_not_or_not {a b : Prop} (h : ¬a ∨ ¬b) : ¬(a ∧ b) := by
  intro hab
  rcases h with ha | hb
  exact ha hab.1
  exact hb hab.2

theorem not_or_intro {a b : Prop} (ha : ¬a) (hb : ¬b) : ¬(a ∨ b) := fun h => Or.elim h ha hb

theorem not_not_em (a : Prop) : ¬¬(a ∨ ¬a) := fun h => h (Or.inr (fun ha => h (Or.inl ha)))
