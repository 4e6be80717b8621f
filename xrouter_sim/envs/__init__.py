"""Thin faces of the one engine: Gymnasium (`gym`), its vector API (`vector`), text and tool calls (`tools`)."""
