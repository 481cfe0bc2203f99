"""How it is remembered: the store contract, group commit, and one file per kind of store."""
