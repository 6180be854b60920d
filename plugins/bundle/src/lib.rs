//! The standard strategies, built as components and carried as bytes.
