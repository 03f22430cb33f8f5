"""Symbolic mathematics in prefix notation: integrals and differential equations, with sympy as the checker.

Source: Lample & Charton, "Deep Learning for Symbolic Mathematics" (arXiv:1912.01412).
"""
