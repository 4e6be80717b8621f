"""Evidence on a response beyond its words: what the code it returned does when it runs."""
