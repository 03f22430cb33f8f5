import Logic.Iff
import Logic.Or

/-! Disjunction is commutative, associative and idempotent. -/

theorem Or.comm {a b : Prop} : a ∨ b ↔ b ∨ a := ⟨Or.symm, Or.symm⟩

theorem or_comm {a b : Prop} : a ∨ b ↔ b ∨ a := Or.comm

theorem or_assoc {a b c : Prop} : (a ∨ b) ∨ c ↔ a ∨ b ∨ c := by
  constructor
  intro h
  rcases h with (ha | hb) | hc
  exact Or.inl ha
  exact Or.inr (Or.inl hb)
  exact Or.inr (Or.inr hc)
  intro h
  rcases h with ha | hb | hc
  exact Or.inl (Or.inl ha)
  exact Or.inl (Or.inr hb)
  exact Or.inr hc

theorem or_left_comm {a b c : Prop} : a ∨ b ∨ c ↔ b ∨ a ∨ c := by
  constructor
  intro h
  exact Or.elim3 h (fun ha => Or.inr (Or.inl ha)) Or.inl (fun hc => Or.inr (Or.inr hc))
  intro h
  exact Or.elim3 h (fun hb => Or.inr (Or.inl hb)) Or.inl (fun hc => Or.inr (Or.inr hc))

theorem or_right_comm {a b c : Prop} : (a ∨ b) ∨ c ↔ (a ∨ c) ∨ b :=
  Iff.trans or_assoc (Iff.trans ⟨Or.imp_right Or.symm, Or.imp_right Or.symm⟩ (Iff.symm or_assoc))

theorem or_rotate {a b c : Prop} : a ∨ b ∨ c ↔ b ∨ c ∨ a := ⟨Or.rotate, fun h => Or.rotate (Or.rotate h)⟩

theorem or_or_or_comm {a b c d : Prop} : (a ∨ b) ∨ c ∨ d ↔ (a ∨ c) ∨ b ∨ d := by
  constructor
  intro h
  rcases h with (ha | hb) | hc | hd
  exact Or.inl (Or.inl ha)
  exact Or.inr (Or.inl hb)
  exact Or.inl (Or.inr hc)
  exact Or.inr (Or.inr hd)
  intro h
  rcases h with (ha | hc) | hb | hd
  exact Or.inl (Or.inl ha)
  exact Or.inr (Or.inl hc)
  exact Or.inl (Or.inr hb)
  exact Or.inr (Or.inr hd)

theorem or_self_iff {a : Prop} : a ∨ a ↔ a := ⟨fun h => Or.elim h (fun ha => ha) (fun ha => ha), Or.inl⟩

theorem or_self_left {a b : Prop} : a ∨ a ∨ b ↔ a ∨ b := ⟨fun h => Or.elim h Or.inl (fun hab => hab), Or.inr⟩

theorem or_self_right {a b : Prop} : (a ∨ b) ∨ b ↔ a ∨ b := ⟨fun h => Or.elim h (fun hab => hab) Or.inr, Or.inl⟩
