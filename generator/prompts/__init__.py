"""Prompt templates for decoder-only models; see `generator.prompts.templates`."""

from generator.prompts.fields import FittedPrompt, PromptFields, PromptTooLongError
from generator.prompts.templates import TEMPLATES, PromptTemplate, find_template, get_template

__all__ = [
    "TEMPLATES",
    "FittedPrompt",
    "PromptFields",
    "PromptTemplate",
    "PromptTooLongError",
    "find_template",
    "get_template",
]
