import Logic.Iff

/-! Implication. -/

theorem imp_intro {α β : Prop} (h : α) : β → α := fun _ => h

theorem imp_imp_imp {a b c d : Prop} (h₀ : c → a) (h₁ : b → d) : (a → b) → c → d :=
  fun h hc => h₁ (h (h₀ hc))

theorem imp.swap {a b c : Prop} : a → b → c ↔ b → a → c := ⟨fun h hb ha => h ha hb, fun h ha hb => h hb ha⟩

theorem imp_iff_right {a b : Prop} (ha : a) : (a → b) ↔ b := ⟨fun h => h ha, fun hb _ => hb⟩

theorem imp_false {a : Prop} : (a → False) ↔ ¬a := Iff.rfl

theorem imp_iff_not {a b : Prop} (hb : ¬b) : a → b ↔ ¬a := ⟨fun h ha => hb (h ha), fun hn ha => absurd ha hn⟩

theorem imp_not_comm {a b : Prop} : a → ¬b ↔ b → ¬a := ⟨fun h hb ha => h ha hb, fun h ha hb => h hb ha⟩

theorem imp_not_self {a : Prop} : a → ¬a ↔ ¬a := ⟨fun h ha => h ha ha, fun h _ => h⟩

theorem and_imp {a b c : Prop} : a ∧ b → c ↔ a → b → c := by
  constructor
  intro h ha hb
  exact h ⟨ha, hb⟩
  intro h hab
  exact h hab.1 hab.2

theorem imp_and {α b c : Prop} : α → b ∧ c ↔ (α → b) ∧ (α → c) :=
  ⟨fun h => ⟨fun ha => (h ha).1, fun ha => (h ha).2⟩, fun h ha => ⟨h.1 ha, h.2 ha⟩⟩

theorem or_imp {a b c : Prop} : a ∨ b → c ↔ (a → c) ∧ (b → c) := by
  constructor
  intro h
  exact ⟨fun ha => h (Or.inl ha), fun hb => h (Or.inr hb)⟩
  intro h hab
  exact Or.elim hab h.1 h.2
