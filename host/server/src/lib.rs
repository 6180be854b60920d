//! The orion command: index, search, evaluate.
