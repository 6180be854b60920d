//! Retrieval data sets, measures and significance tests.
