import Logic.Iff
import Logic.Not

/-! Equivalences with `True` and `False`. -/

theorem of_iff_true {a : Prop} (h : a ↔ True) : a := h.mpr trivial

theorem iff_true_intro {a : Prop} (h : a) : a ↔ True := iff_of_true h trivial

theorem not_of_iff_false {p : Prop} : (p ↔ False) → ¬p := Iff.mp

theorem iff_false_intro {a : Prop} (h : ¬a) : a ↔ False := iff_of_false h not_false

theorem not_iff_false_intro {a : Prop} (h : a) : ¬a ↔ False := iff_false_intro (not_not_intro h)

theorem not_true : ¬True ↔ False := not_iff_false_intro trivial

theorem not_false_iff : ¬False ↔ True := iff_true_intro not_false

theorem imp_self {a : Prop} : (a → a) ↔ True := iff_true_intro (fun h => h)

theorem imp_true_iff (α : Prop) : (α → True) ↔ True := iff_true_intro (fun _ => trivial)

theorem false_imp_iff (a : Prop) : (False → a) ↔ True := iff_true_intro False.elim

theorem true_imp_iff (α : Prop) : (True → α) ↔ α := ⟨fun h => h trivial, fun h _ => h⟩

theorem and_not_self_iff (a : Prop) : a ∧ ¬a ↔ False := iff_false_intro and_not_self

theorem not_and_self_iff (a : Prop) : ¬a ∧ a ↔ False := iff_false_intro not_and_self
