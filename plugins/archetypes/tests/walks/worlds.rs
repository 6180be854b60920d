//! One world for each archetype, in which its move shows, and the walk it makes there.
//!
//! A world is a table of queries: what each is worth, what the document says that it alone finds, and what the policy
//! proposes after it. Lookups are by words, so a query finds the documents it shares a word with.

use orion_sdk::Request;
use orion_sdk::mock::MockHost;

pub(crate) struct World {
    pub(crate) host: MockHost,
    pub(crate) request: Request,
    /// As [`crate::walked::Walked::lines`] writes it.
    pub(crate) expected: &'static [&'static str],
}

/// Query, quality, text of its own document (`None`: it has none), proposals.
type Page = (&'static str, f32, Option<&'static str>, &'static [&'static str]);

fn build(user_query: &str, openings: &[&str], pages: &[Page], expected: &'static [&'static str]) -> World {
    let mut host = MockHost::new().proposes(user_query, openings);
    for (query, quality, text, proposals) in pages {
        host = host.quality_of(query, *quality);
        if let Some(text) = text {
            host = host.document(query, query, text);
        }
        if !proposals.is_empty() {
            host = host.proposes(query, proposals);
        }
    }
    World { host, request: Request::new(user_query, 10, 7).with("retriever", "lexical"), expected }
}

pub(crate) fn world(of: &str) -> World {
    match of {
        "adaptive-context-learner" => climate(),
        "random-walk-wanderer" => solar_panels(),
        "breadth-first-explorer" => intelligence(),
        "depth-first-driller" => machine_learning(),
        "wrong-direction-specialist" => python(),
        "early-success-validator" => protein(),
        "exploitation-heavy-validator" => language(),
        "greedy-hill-climber" => coffee(),
        "best-first-hypothesis-selector" => fever(),
        "multi-beam-parallel" => weather(),
        "pseudo-document" => heat_pumps(),
        other => panic!("no archetype is called {other}"),
    }
}

/// Documents are full of words worth adding; what the policy proposes uses none of them.
fn climate() -> World {
    build(
        "climate change",
        &["climate change effects", "ocean currents", "sea level", "arctic ice"],
        &[
            (
                "climate change effects",
                0.4,
                Some("carbon emissions"),
                &[
                    "climate change impacts",
                    "effects climate policy",
                    "climate effects today",
                    "change effects map",
                ],
            ),
            (
                "climate change effects carbon emissions",
                0.5,
                Some("methane permafrost"),
                &["carbon emissions map", "climate emissions law", "effects carbon tax", "carbon change"],
            ),
            (
                "climate change effects carbon emissions methane permafrost",
                0.6,
                Some("wetlands rice"),
                &["methane map", "permafrost law", "carbon methane tax", "methane change"],
            ),
            (
                "climate change effects carbon emissions methane permafrost wetlands rice",
                0.65,
                Some("cattle feed"),
                &["rice map", "wetlands law", "rice tax", "wetlands change"],
            ),
            (
                "climate change effects carbon emissions methane permafrost wetlands rice cattle feed",
                0.7,
                None,
                &[],
            ),
        ],
        &[
            "1 climate change effects < user",
            "2 climate change effects carbon emissions < climate change effects",
            "3 climate change effects carbon emissions methane permafrost < climate change effects carbon emissions",
            "4 climate change effects carbon emissions methane permafrost wetlands rice < climate change effects carbon \
             emissions methane permafrost",
            "5 climate change effects carbon emissions methane permafrost wetlands rice cattle feed < climate change \
             effects carbon emissions methane permafrost wetlands rice",
        ],
    )
}

/// Five levels of unrelated queries, each level worth less than the one before.
fn solar_panels() -> World {
    const LEVELS: [[(&str, f32); 4]; 5] = [
        [("renewable energy", 0.9), ("electric grid", 0.85), ("roof tiles", 0.8), ("silicon wafers", 0.82)],
        [("wind turbines", 0.6), ("copper cables", 0.62), ("clay pottery", 0.64), ("computer chips", 0.58)],
        [("sailing boats", 0.4), ("telephone history", 0.38), ("museum vases", 0.42), ("video games", 0.36)],
        [("island harbours", 0.15), ("radio waves", 0.14), ("ancient greece", 0.16), ("board puzzles", 0.12)],
        [("sea birds", 0.05), ("short stories", 0.04), ("olive trees", 0.03), ("card tricks", 0.02)],
    ];
    let mut world = build(
        "solar panels",
        &LEVELS[0].map(|(query, _)| query),
        &[],
        &[
            "1 renewable energy < user",
            "2 clay pottery < renewable energy",
            "3 telephone history < clay pottery",
            "4 island harbours < telephone history",
            "5 card tricks < island harbours",
        ],
    );
    for (depth, level) in LEVELS.iter().enumerate() {
        for (query, quality) in level {
            world.host = world.host.quality_of(query, *quality).document(query, query, "");
            if let Some(next) = LEVELS.get(depth + 1) {
                world.host = world.host.proposes(query, &next.map(|(query, _)| query));
            }
        }
    }
    world
}

/// Three topics, the last of them the best.
fn intelligence() -> World {
    build(
        "artificial intelligence",
        &["smart applications", "robot ethics", "automata history", "patent law"],
        &[
            (
                "smart applications",
                0.3,
                Some("tools"),
                &["medical diagnosis", "chess", "spam filters", "maps"],
            ),
            ("robot ethics", 0.5, Some("rules"), &["trolley problem", "privacy", "blame", "consent"]),
            ("automata history", 0.9, Some("dates"), &["dartmouth workshop", "lisp", "winters", "eliza"]),
            ("medical diagnosis", 0.3, Some("scans"), &["x ray", "doctor", "nurse", "ward"]),
            ("trolley problem", 0.3, Some("tracks"), &["lever", "bridge", "surgeon", "loop"]),
            ("dartmouth workshop", 0.3, Some("summer"), &["mccarthy", "minsky", "shannon", "simon"]),
        ],
        &[
            "1 smart applications < user",
            "2 robot ethics < user",
            "3 automata history < user",
            "4 medical diagnosis < smart applications",
            "5 trolley problem < robot ethics",
        ],
    )
}

/// A promising line whose third query brings nothing that was not there already.
fn machine_learning() -> World {
    build(
        "machine learning",
        &["neural networks", "decision trees", "bayes rule", "kernel methods"],
        &[
            (
                "neural networks",
                0.5,
                Some("layers of units"),
                &["deep learning", "perceptron history", "spiking neurons", "hopfield memory"],
            ),
            (
                "deep learning",
                0.55,
                Some("transformers stacked"),
                &["transformers", "convolution filters", "dropout", "residual blocks"],
            ),
            ("transformers", 0.5, None, &["attention heads", "positional codes", "token mixing", "norms"]),
            (
                "convolution filters",
                0.5,
                Some("edge detectors"),
                &["image blur", "stride choice", "pooling maps", "wavelets"],
            ),
            ("image blur", 0.45, Some("pixels"), &[]),
            (
                "attention heads",
                0.5,
                Some("queries and keys"),
                &["sparse heads", "head count", "memory", "speed"],
            ),
        ],
        &[
            "1 neural networks < user",
            "2 deep learning < neural networks",
            "3 transformers < deep learning",
            "4 convolution filters < deep learning",
            "5 image blur < convolution filters",
        ],
    )
}

/// The table's own example: an ambiguous word leads from lessons to snakes.
fn python() -> World {
    build(
        "python tutorials",
        &["python lessons", "scripting basics", "web howto", "notebook guide"],
        &[
            (
                "python lessons",
                0.6,
                Some("variables loops"),
                &["python feeding", "python exercises", "coding course", "python lessons video"],
            ),
            (
                "python feeding",
                0.3,
                Some("snake mice"),
                &["snake terrarium", "mice breeding", "reptile heat", "skin"],
            ),
            ("coding course", 0.65, Some("functions"), &["exam dates", "function calls", "fees", "teachers"]),
            ("exam dates", 0.62, Some("june"), &["grading rules", "retakes", "rooms", "timetable"]),
            ("grading rules", 0.6, Some("points"), &[]),
        ],
        &[
            "1 python lessons < user",
            "2 python feeding < python lessons",
            "3 coding course < python lessons",
            "4 exam dates < coding course",
            "5 grading rules < exam dates",
        ],
    )
}

/// The first query works at once, and so do its refinements.
fn protein() -> World {
    build(
        "protein folding",
        &["protein structure prediction", "enzyme shapes", "amino chains", "misfolding disease"],
        &[
            (
                "protein structure prediction",
                0.8,
                Some("accurate models"),
                &[
                    "lattice models",
                    "protein structure prediction methods",
                    "protein structure accuracy",
                    "water shells",
                ],
            ),
            ("protein structure prediction methods", 0.78, Some("surveyed"), &[]),
            ("protein structure accuracy", 0.75, Some("scored"), &[]),
        ],
        &[
            "1 protein structure prediction < user",
            "2 protein structure prediction methods < protein structure prediction",
            "3 protein structure accuracy < protein structure prediction",
        ],
    )
}

/// A decent query whose refinements are all a little worse, beside ways to leave it.
fn language() -> World {
    build(
        "deep learning nlp",
        &["deep learning language", "image nets", "speech sounds", "robot arms"],
        &[
            (
                "deep learning language",
                0.55,
                Some("morphology syntax"),
                &["speech audio", "deep learning text", "deep learning parsing", "deep language models"],
            ),
            ("speech audio", 0.3, Some("microphones"), &["loudspeakers", "noise", "echo", "headsets"]),
            ("deep learning text", 0.5, None, &["books", "letters", "scrolls", "pages"]),
            ("deep learning parsing", 0.5, None, &["grammar trees", "brackets", "tokens", "stacks"]),
            ("deep language models", 0.5, None, &["perplexity", "corpora", "vocabulary", "sampling"]),
            ("deep learning language morphology", 0.5, None, &[]),
            (
                "deep learning language morphology syntax",
                0.6,
                Some("inflection"),
                &["verbs", "nouns", "case", "mood"],
            ),
        ],
        &[
            "1 deep learning language < user",
            "2 deep learning text < deep learning language",
            "3 deep learning parsing < deep learning language",
            "4 deep language models < deep learning language",
            "5 deep learning language morphology < deep learning language",
        ],
    )
}

/// Slopes that rise where not the first variant is taken, up to a summit.
fn coffee() -> World {
    build(
        "coffee roast",
        &["light roast", "medium roast", "dark roast", "green beans"],
        &[
            ("light roast", 0.2, Some("sour"), &["cinnamon", "blonde", "white", "half city"]),
            (
                "medium roast",
                0.5,
                Some("sweet"),
                &["city roast", "full city", "vienna roast", "french press"],
            ),
            ("dark roast", 0.3, Some("bitter"), &["italian", "spanish", "espresso", "char"]),
            ("city roast", 0.4, Some("even"), &["drum", "air", "pan", "oven"]),
            ("full city", 0.7, Some("round"), &["second crack", "oil sheen", "smoke point", "bean weight"]),
            ("vienna roast", 0.6, Some("dark"), &["cream", "sugar", "spice", "cup"]),
            ("second crack", 0.65, Some("sound"), &["pop", "snap", "pause", "time"]),
            ("oil sheen", 0.6, Some("shine"), &["surface", "age", "bag", "light"]),
            ("smoke point", 0.8, Some("vapour"), &["wood fire", "charcoal", "ash", "chimney"]),
        ],
        &[
            "1 light roast < user (pruned)",
            "1 medium roast < user",
            "1 dark roast < user (pruned)",
            "2 city roast < medium roast (pruned)",
            "2 full city < medium roast",
            "2 vienna roast < medium roast (pruned)",
            "3 second crack < full city (pruned)",
            "3 oil sheen < full city (pruned)",
            "3 smoke point < full city",
            "4 wood fire < smoke point (pruned)",
            "4 charcoal < smoke point (pruned)",
            "4 ash < smoke point (pruned)",
        ],
    )
}

/// The best hypothesis disappoints when it is pursued.
fn fever() -> World {
    build(
        "mystery fever",
        &["flu season", "malaria", "lyme disease", "heat stroke"],
        &[
            ("flu season", 0.4, Some("winter"), &["vaccine", "cough", "masks", "rest"]),
            ("malaria", 0.7, Some("mosquito"), &["malaria travel history", "nets", "quinine", "chills"]),
            ("lyme disease", 0.6, Some("rash"), &["tick bites", "joints", "woods", "dogs"]),
            ("malaria travel history", 0.5, Some("flights"), &["airports", "visas", "maps", "hotels"]),
            ("tick bites", 0.45, Some("skin"), &["tweezers", "socks", "grass", "deer"]),
        ],
        &[
            "1 flu season < user",
            "2 malaria < user",
            "3 lyme disease < user",
            "4 malaria travel history < malaria",
            "5 tick bites < lyme disease",
        ],
    )
}

/// Three different ways to ask, and a fourth that is much like the first.
fn weather() -> World {
    build(
        "long term forecasts",
        &["climate records", "climate records archive", "weather patterns", "temperature trends"],
        &[
            ("climate records", 0.5, Some("stations"), &["ice cores", "tree rings", "ship logs", "diaries"]),
            ("weather patterns", 0.4, Some("fronts"), &["jet stream", "monsoon", "clouds", "lows"]),
            ("temperature trends", 0.6, Some("warming"), &["urban heat", "night frost", "summers", "oceans"]),
            ("ice cores", 0.5, Some("bubbles"), &[]),
            ("urban heat", 0.5, Some("asphalt"), &[]),
        ],
        &[
            "1 climate records < user",
            "1 weather patterns < user",
            "1 temperature trends < user",
            "2 ice cores < climate records",
            "2 urban heat < temperature trends",
        ],
    )
}

/// Documents worded as answers are, which the question's own words do not reach.
fn heat_pumps() -> World {
    let world = build(
        "why do heat pumps freeze",
        &["ice on coils", "winter air", "defrost", "fans"],
        &[
            ("outdoor coils", 0.0, Some("ice grows where humid air meets cold metal"), &[]),
            ("reversing valve", 0.0, Some("the defrost cycle melts the ice on outdoor coils"), &[]),
            (
                "The reason why heat pumps freeze is as follows. ice on coils",
                0.4,
                None,
                &["frost sensors", "thaw", "timers", "warm gas"],
            ),
        ],
        &[
            "1 The reason why heat pumps freeze is as follows. ice on coils < user",
            "2 The reason why heat pumps freeze is as follows. frost sensors ice grows where humid air meets cold metal \
             the defrost cycle melts the ice on outdoor coils < The reason why heat pumps freeze is as follows. ice on \
             coils",
            "3 The reason why heat pumps freeze is as follows. frost sensors the defrost cycle melts the ice on outdoor \
             coils ice grows where humid air meets cold metal < The reason why heat pumps freeze is as follows. ice on \
             coils",
        ],
    );
    World { request: world.request.with("turns", 3), ..world }
}
