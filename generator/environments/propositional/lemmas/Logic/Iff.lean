import Logic.Prelude

/-! Equivalence as a relation. -/

theorem Iff.refl (a : Prop) : a ↔ a := ⟨fun h => h, fun h => h⟩

theorem Iff.rfl {a : Prop} : a ↔ a := Iff.refl _

theorem Iff.symm {a b : Prop} (h : a ↔ b) : b ↔ a := ⟨h.mpr, h.mp⟩

theorem Iff.trans {a b c : Prop} (h₁ : a ↔ b) (h₂ : b ↔ c) : a ↔ c :=
  ⟨fun ha => h₂.mp (h₁.mp ha), fun hc => h₁.mpr (h₂.mpr hc)⟩

theorem Iff.comm {a b : Prop} : (a ↔ b) ↔ (b ↔ a) := ⟨Iff.symm, Iff.symm⟩

theorem iff_comm {a b : Prop} : (a ↔ b) ↔ (b ↔ a) := Iff.comm

theorem iff_def {a b : Prop} : (a ↔ b) ↔ (a → b) ∧ (b → a) := by
  constructor
  intro h
  exact ⟨h.mp, h.mpr⟩
  intro h
  exact ⟨h.1, h.2⟩

theorem iff_def' {a b : Prop} : (a ↔ b) ↔ (b → a) ∧ (a → b) := by
  constructor
  intro h
  exact ⟨h.mpr, h.mp⟩
  intro h
  exact ⟨h.2, h.1⟩

theorem iff_of_true {a b : Prop} (ha : a) (hb : b) : a ↔ b := ⟨fun _ => hb, fun _ => ha⟩

theorem iff_of_false {a b : Prop} (ha : ¬a) (hb : ¬b) : a ↔ b := ⟨fun h => absurd h ha, fun h => absurd h hb⟩

theorem iff_true_left {a b : Prop} (ha : a) : (a ↔ b) ↔ b := ⟨fun h => h.mp ha, fun hb => iff_of_true ha hb⟩

theorem iff_true_right {a b : Prop} (ha : a) : (b ↔ a) ↔ b := ⟨fun h => h.mpr ha, fun hb => iff_of_true hb ha⟩

theorem iff_false_left {a b : Prop} (ha : ¬a) : (a ↔ b) ↔ ¬b :=
  ⟨fun h hb => ha (h.mpr hb), fun hb => iff_of_false ha hb⟩

theorem iff_false_right {a b : Prop} (ha : ¬a) : (b ↔ a) ↔ ¬b :=
  ⟨fun h hb => ha (h.mp hb), fun hb => iff_of_false hb ha⟩
