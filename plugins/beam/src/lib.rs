//! The paper's beam search over a search policy.
