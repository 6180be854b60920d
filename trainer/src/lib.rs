//! Makes new weights for the search policy.
