import Logic.Prelude

/-! Conjunction: moving its parts and mapping over them. -/

theorem And.symm {a b : Prop} : a ∧ b → b ∧ a := fun h => ⟨h.2, h.1⟩

theorem And.rotate {a b c : Prop} : a ∧ b ∧ c → b ∧ c ∧ a := fun h => ⟨h.2.1, h.2.2, h.1⟩

theorem And.imp {a b c d : Prop} (f : a → c) (g : b → d) (h : a ∧ b) : c ∧ d := ⟨f h.1, g h.2⟩

theorem And.imp_left {a b c : Prop} (h : a → b) : a ∧ c → b ∧ c := by
  intro hac
  constructor
  exact h hac.1
  exact hac.2

theorem And.imp_right {a b c : Prop} (h : a → b) : c ∧ a → c ∧ b := by
  intro hca
  refine ⟨hca.1, ?_⟩
  apply h
  exact hca.2
