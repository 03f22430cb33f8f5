import Logic.Imp
import Logic.Not

/-! Equivalences about negation that hold without excluded middle. -/

theorem not_not_not {a : Prop} : ¬¬¬a ↔ ¬a := ⟨mt not_not_intro, not_not_intro⟩

theorem not_or {p q : Prop} : ¬(p ∨ q) ↔ ¬p ∧ ¬q := by
  constructor
  intro h
  exact ⟨fun hp => h (Or.inl hp), fun hq => h (Or.inr hq)⟩
  intro h
  exact not_or_intro h.1 h.2

theorem not_and {a b : Prop} : ¬(a ∧ b) ↔ a → ¬b :=
  ⟨fun h ha hb => h ⟨ha, hb⟩, fun h hab => h hab.1 hab.2⟩

theorem not_and' {a b : Prop} : ¬(a ∧ b) ↔ b → ¬a := Iff.trans not_and imp_not_comm

theorem not_congr {a b : Prop} (h : a ↔ b) : ¬a ↔ ¬b := ⟨mt h.mpr, mt h.mp⟩

theorem Iff.not {a b : Prop} (h : a ↔ b) : ¬a ↔ ¬b := not_congr h

theorem iff_not_self {a : Prop} : ¬(a ↔ ¬a) := by
  intro h
  have hn : ¬a := fun ha => h.mp ha ha
  exact hn (h.mpr hn)

theorem not_iff_self {a : Prop} : ¬(¬a ↔ a) := fun h => iff_not_self h.symm
