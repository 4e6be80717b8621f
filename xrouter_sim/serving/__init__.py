"""A router behind an OpenAI-compatible endpoint: live against providers within budgets, or from a store for nothing."""
