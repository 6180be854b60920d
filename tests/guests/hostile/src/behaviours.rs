//! The list of behaviours: the guest implements each, the host's tests expect an outcome of each.
//!
//! Both sides expand [`each_behaviour`] and match exhaustively, so a behaviour without a test, or a test without a
//! behaviour, does not compile.

/// Hands `variant name` pairs to a macro.
macro_rules! each_behaviour {
    ($then:ident) => {
        $then! {
            Polite polite,
            PoliteWithPolicy polite_with_policy,
            Spin spin,
            SpinForever spin_forever,
            GrowMemory grow_memory,
            Recurse recurse,
            RecurseWithFrames recurse_with_frames,
            Unreachable unreachable,
            Panic panic,
            FloodNodes flood_nodes,
            FloodCandidates flood_candidates,
            FloodHostCalls flood_host_calls,
            FloodTrace flood_trace,
            FloodTraceBytes flood_trace_bytes,
            FloodLog flood_log,
            FilthyLog filthy_log,
            GreedyRetrievals greedy_retrievals,
            GreedyTokens greedy_tokens,
            HugeQuery huge_query,
            HugeCall huge_call,
            HugeList huge_list,
            NoHits no_hits,
            TooManyHits too_many_hits,
            WeightTooLarge weight_too_large,
            BillionCandidates billion_candidates,
            NanTemperature nan_temperature,
            ZeroTopP zero_top_p,
            EscapeFilter escape_filter,
            ReadBehindFilter read_behind_filter,
            UnknownParent unknown_parent,
            UnknownNode unknown_node,
            UnknownJudgedNode unknown_judged_node,
            UnknownBranch unknown_branch,
            BranchTwice branch_twice,
            RankNan rank_nan,
            RankTwice rank_twice,
            RankForeign rank_foreign,
            RankRising rank_rising,
            RankTooLong rank_too_long,
            SureBeyondOne sure_beyond_one,
            GiveUp give_up,
            HangInService hang_in_service,
            CancelledPolite cancelled_polite,
            CancelledStubborn cancelled_stubborn,
            CallsAfterCancel calls_after_cancel,
            TrapHoldingNodes trap_holding_nodes,
            HoardDocuments hoard_documents,
            RankInfinite rank_infinite,
            SureInfinitely sure_infinitely,
            InfiniteTemperature infinite_temperature,
            InfiniteWeight infinite_weight,
            JudgedNan judged_nan,
            HugeRemarks huge_remarks,
            HugeThought huge_thought,
            NodeOfAnotherSearch node_of_another_search,
        }
    };
}

/// Declares the enum and its names.
macro_rules! declare {
    ($($variant:ident $name:ident,)*) => {
        /// What the guest does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Behaviour {
            $($variant,)*
        }

        impl Behaviour {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value of the request's option `behaviour`.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                }
            }
        }
    };
}
each_behaviour!(declare);
