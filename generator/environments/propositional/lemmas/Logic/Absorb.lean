import Logic.And
import Logic.NotIff
import Logic.Or

/-! One side of a conjunction or disjunction can be left out. -/

theorem and_iff_left {a b : Prop} (hb : b) : a ∧ b ↔ a := ⟨And.left, fun ha => ⟨ha, hb⟩⟩

theorem and_iff_right {a b : Prop} (ha : a) : a ∧ b ↔ b := ⟨And.right, fun hb => ⟨ha, hb⟩⟩

theorem and_iff_left_of_imp {a b : Prop} (h : a → b) : a ∧ b ↔ a := ⟨And.left, fun ha => ⟨ha, h ha⟩⟩

theorem and_iff_right_of_imp {a b : Prop} (h : b → a) : a ∧ b ↔ b := ⟨And.right, fun hb => ⟨h hb, hb⟩⟩

theorem and_iff_left_iff_imp {a b : Prop} : (a ∧ b ↔ a) ↔ a → b :=
  ⟨fun h ha => (h.mpr ha).2, and_iff_left_of_imp⟩

theorem and_iff_right_iff_imp {a b : Prop} : (a ∧ b ↔ b) ↔ b → a :=
  ⟨fun h hb => (h.mpr hb).1, and_iff_right_of_imp⟩

theorem iff_self_and {p q : Prop} : (p ↔ p ∧ q) ↔ p → q := Iff.trans Iff.comm and_iff_left_iff_imp

theorem iff_and_self {p q : Prop} : (p ↔ q ∧ p) ↔ p → q := Iff.trans Iff.comm and_iff_right_iff_imp

theorem or_iff_left {a b : Prop} (hb : ¬b) : a ∨ b ↔ a := ⟨fun h => Or.resolve_right h hb, Or.inl⟩

theorem or_iff_right {a b : Prop} (ha : ¬a) : a ∨ b ↔ b := ⟨fun h => Or.resolve_left h ha, Or.inr⟩

theorem or_iff_left_of_imp {a b : Prop} (hb : b → a) : a ∨ b ↔ a :=
  ⟨fun h => Or.elim h (fun ha => ha) hb, Or.inl⟩

theorem or_iff_right_of_imp {a b : Prop} (ha : a → b) : a ∨ b ↔ b :=
  ⟨fun h => Or.elim h ha (fun hb => hb), Or.inr⟩

theorem or_iff_left_iff_imp {a b : Prop} : (a ∨ b ↔ a) ↔ b → a :=
  ⟨fun h hb => h.mp (Or.inr hb), or_iff_left_of_imp⟩

theorem or_iff_right_iff_imp {a b : Prop} : (a ∨ b ↔ b) ↔ a → b :=
  ⟨fun h ha => h.mp (Or.inl ha), or_iff_right_of_imp⟩

theorem iff_self_or {a b : Prop} : (a ↔ a ∨ b) ↔ b → a := Iff.trans Iff.comm or_iff_left_iff_imp

theorem iff_or_self {a b : Prop} : (b ↔ a ∨ b) ↔ a → b := Iff.trans Iff.comm or_iff_right_iff_imp
