//! Lexical and dense index with one atomic commit.
