import Logic.AndComm
import Logic.OrComm

/-! Conjunction and disjunction distribute over each other. -/

theorem and_or_left {a b c : Prop} : a ∧ (b ∨ c) ↔ a ∧ b ∨ a ∧ c := by
  constructor
  intro h
  rcases h with ⟨ha, hb | hc⟩
  exact Or.inl ⟨ha, hb⟩
  exact Or.inr ⟨ha, hc⟩
  intro h
  rcases h with h | h
  exact ⟨h.1, Or.inl h.2⟩
  exact ⟨h.1, Or.inr h.2⟩

theorem or_and_right {a b c : Prop} : (a ∨ b) ∧ c ↔ a ∧ c ∨ b ∧ c := by
  constructor
  intro h
  rcases h.1 with ha | hb
  exact Or.inl ⟨ha, h.2⟩
  exact Or.inr ⟨hb, h.2⟩
  intro h
  rcases h with h | h
  exact ⟨Or.inl h.1, h.2⟩
  exact ⟨Or.inr h.1, h.2⟩

theorem or_and_left {a b c : Prop} : a ∨ b ∧ c ↔ (a ∨ b) ∧ (a ∨ c) := by
  constructor
  intro h
  rcases h with ha | h
  exact ⟨Or.inl ha, Or.inl ha⟩
  exact ⟨Or.inr h.1, Or.inr h.2⟩
  intro h
  rcases h.1 with ha | hb
  exact Or.inl ha
  exact Or.imp_right (fun hc => ⟨hb, hc⟩) h.2

theorem and_or_right {a b c : Prop} : a ∧ b ∨ c ↔ (a ∨ c) ∧ (b ∨ c) :=
  Iff.trans or_comm (Iff.trans or_and_left ⟨And.imp Or.symm Or.symm, And.imp Or.symm Or.symm⟩)

theorem or_or_distrib_left {a b c : Prop} : a ∨ b ∨ c ↔ (a ∨ b) ∨ a ∨ c :=
  ⟨fun h => Or.elim3 h (fun ha => Or.inl (Or.inl ha)) (fun hb => Or.inl (Or.inr hb)) (fun hc => Or.inr (Or.inr hc)),
    fun h => Or.elim h (Or.imp_right Or.inl) (Or.imp_right Or.inr)⟩

theorem or_or_distrib_right {a b c : Prop} : (a ∨ b) ∨ c ↔ (a ∨ c) ∨ b ∨ c :=
  ⟨fun h => Or.elim h (Or.imp Or.inl Or.inl) (fun hc => Or.inr (Or.inr hc)),
    fun h => Or.elim h (Or.imp_left Or.inl) (Or.imp_left Or.inr)⟩
