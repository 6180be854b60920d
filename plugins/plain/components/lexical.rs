//! The component `lexical`.

orion_sdk::export!(orion_plain::Lexical);
