//! Runs sandboxed search strategies over an index and a policy.
