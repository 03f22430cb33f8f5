import Logic.Not

/-! Disjunction: moving its parts, mapping over them, ruling one out. -/

theorem Or.symm {a b : Prop} : a ∨ b → b ∨ a := by
  intro h
  rcases h with ha | hb
  right
  exact ha
  left
  exact hb

theorem Or.imp {a b c d : Prop} (f : a → c) (g : b → d) (h : a ∨ b) : c ∨ d :=
  Or.elim h (fun ha => Or.inl (f ha)) (fun hb => Or.inr (g hb))

theorem Or.imp_left {a b c : Prop} (f : a → b) : a ∨ c → b ∨ c := fun h => Or.imp f (fun hc => hc) h

theorem Or.imp_right {a b c : Prop} (f : b → c) : a ∨ b → a ∨ c := fun h => Or.imp (fun ha => ha) f h

theorem Or.rotate {a b c : Prop} : a ∨ b ∨ c → b ∨ c ∨ a := by
  intro h
  rcases h with ha | hb | hc
  exact Or.inr (Or.inr ha)
  exact Or.inl hb
  exact Or.inr (Or.inl hc)

theorem Or.elim3 {a b c d : Prop} (h : a ∨ b ∨ c) (ha : a → d) (hb : b → d) (hc : c → d) : d :=
  Or.elim h ha (fun hbc => Or.elim hbc hb hc)

theorem Or.imp3 {a b c d e f : Prop} (had : a → d) (hbe : b → e) (hcf : c → f) : a ∨ b ∨ c → d ∨ e ∨ f :=
  fun h => Or.imp had (fun hbc => Or.imp hbe hcf hbc) h

theorem Or.resolve_left {a b : Prop} (h : a ∨ b) (na : ¬a) : b := by
  rcases h with ha | hb
  contradiction
  assumption

theorem Or.resolve_right {a b : Prop} (h : a ∨ b) (nb : ¬b) : a := by
  rcases h with ha | hb
  assumption
  contradiction

theorem Or.neg_resolve_left {a b : Prop} (h : ¬a ∨ b) (ha : a) : b := Or.resolve_left h (not_not_intro ha)

theorem Or.neg_resolve_right {a b : Prop} (h : a ∨ ¬b) (nb : b) : a := Or.resolve_right h (not_not_intro nb)

theorem or_of_or_of_imp_of_imp {a b c d : Prop} (h₁ : a ∨ b) (h₂ : a → c) (h₃ : b → d) : c ∨ d :=
  Or.imp h₂ h₃ h₁

theorem or_of_or_of_imp_left {a b c : Prop} (h₁ : a ∨ c) (h : a → b) : b ∨ c := Or.imp_left h h₁

theorem or_of_or_of_imp_right {a b c : Prop} (h₁ : c ∨ a) (h : a → b) : c ∨ b := Or.imp_right h h₁
