//! The LFM2 search policy: nodes, constrained decoding, batched scheduling.
