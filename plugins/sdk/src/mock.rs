//! A scripted in-memory world for native unit tests of strategies.
