//! Dense CPU kernels with run-time dispatch and a fixed order of reduction.
