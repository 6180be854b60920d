//! End to end tests, hostile guests, golden data and benchmarks.
