//! The host and the scenario that all tests of this binary share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use orion_host::scripted::{Checked, Scenario};
use orion_host::{Host, HostOptions, Strategy};

/// A search of two turns in which the second is worth it: what was found first names what to look for.
pub(crate) const SCENARIO: &str = r#"
about = "the branch that reads of the valve finds the pump"

[request]
query = "why does the outdoor unit stop in winter"
k = 3
options = { turns = 2, beam = 1, width = 2, patience = 0 }

[[document]]
id = "defrost"
title = "Defrost cycle"
text = "In frost the outdoor unit of a heat pump stops and a reversing valve melts the ice."

[[document]]
id = "valve"
title = "Reversing valve"
text = "A reversing valve swaps condenser and evaporator."

[[document]]
id = "tariff"
title = "Winter tariff"
text = "Why does power cost more in winter."

[[proposal]]
after = "why does the outdoor unit stop in winter"
think = "ice on a heat pump stops it"
query = "heat pump ice frost"

[[proposal]]
after = "why does the outdoor unit stop in winter"
think = "power may be dear"
query = "winter tariff cost"

[[proposal]]
after = "heat pump ice frost"
think = "the valve turns the cycle round"
query = "reversing valve condenser"
retriever = "lexical"

[[proposal]]
after = "heat pump ice frost"
query = "evaporator"

[[perplexity]]
after = "heat pump ice frost"
value = 3.0

[[perplexity]]
after = "reversing valve condenser"
value = 2.0
"#;

/// One host for all tests; compiled components are kept between runs.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let cache_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("components"));
        Host::new(HostOptions { cache_folder, breaker_failures: 0, ..HostOptions::default() })
            .expect("a host")
    })
}

/// A standard strategy.
pub(crate) fn strategy(name: &str) -> Arc<Strategy> {
    let component = orion_bundle::component(name).unwrap_or_else(|| panic!("`{name}` is not bundled"));
    host().load_bytes(name, component.bytes).expect("a bundled strategy loads")
}

/// [`SCENARIO`], run with `beam`.
pub(crate) fn searched() -> Checked {
    let scenario = Scenario::parse("pump", SCENARIO).expect("a scenario");
    scenario.run(host(), &strategy("beam")).expect("a search")
}
