//! Evaluation in two steps that share nothing but files.
//!
//! [`runs`] answers queries and writes journals and TREC run files; it never opens a judgement file beyond its
//! column of query ids. [`score`] reads those files and the judgements, and makes Table A, [`oracle_stop`] Table B. Nothing
//! that ranks can reach a judgement, because when judgements are read all rankings are on disk.

pub mod journal;
pub mod oracle_stop;
pub mod runs;
pub mod score;
